"""What one call or one handshake came to: material for the decision whether to try again (`leader.py`)."""

from collections.abc import Mapping

import grpc

from zkp.client.errors import (
    AlreadyExists,
    ClientError,
    Conflict,
    Exhausted,
    InvalidSubmission,
    NotFound,
    Refused,
    ServerFault,
)

LEADER_METADATA = "zkp-leader"
FIELD_METADATA = "zkp-field"
_NOT_LEADER = "Not leader"
_PASSING = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class CallFailed(Exception):
    """One call to one address failed.

    `metadata` holds the trailing metadata with text values, lower-case keys.
    """

    def __init__(self, code: grpc.StatusCode, details: str, metadata: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{code.name}: {details}")
        self.code = code
        self.details = details
        self.metadata = dict(metadata or {})

    @property
    def not_leader(self) -> bool:
        """The node does not lead. Its text tells that from a conflict of the task when the node knows no leader."""
        return self.code is grpc.StatusCode.FAILED_PRECONDITION and (
            LEADER_METADATA in self.metadata or self.details.startswith(_NOT_LEADER)
        )

    @property
    def passing(self) -> bool:
        """Nobody knows the outcome, and the same call may succeed later or elsewhere."""
        return self.code in _PASSING


class DialFailed(Exception):
    """No usable connection to one address. `hopeless`: the same handshake would fail again the same way."""

    def __init__(self, reason: str, *, hopeless: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hopeless = hopeless


def stream_ended() -> CallFailed:
    """The coordinator ended a stream that goes on for as long as it leads."""
    return CallFailed(grpc.StatusCode.UNAVAILABLE, "it ended the stream")


_DEFAULT_RETRY_AFTER = 1.0
_FINAL: Mapping[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: Refused,
    grpc.StatusCode.UNAUTHENTICATED: Refused,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
}


def final_error(failure: CallFailed) -> ClientError:
    """The error for an answer that no retry can better."""
    text = failure.details or failure.code.name
    if failure.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE):
        field = failure.metadata.get(FIELD_METADATA, "")
        return InvalidSubmission(text.removeprefix(f"{field}: "), field)
    if failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Exhausted(text, retry_after(failure.metadata))
    if failure.code in _FINAL:
        return _FINAL[failure.code](text)
    return ServerFault(f"the coordinator answered {failure.code.name}: {text}; see its log")


def retry_after(metadata: Mapping[str, str]) -> float:
    """Seconds to wait as the coordinator asks for them in "retry-after"; 1 when it does not say."""
    try:
        seconds = float(metadata.get("retry-after", ""))
    except ValueError:
        return _DEFAULT_RETRY_AFTER
    return seconds if 0 < seconds < 3600 else _DEFAULT_RETRY_AFTER
