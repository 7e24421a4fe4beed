"""Results of one failed call or handshake, from which `leader.py` decides whether to retry."""

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
_TRANSIENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


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
        """Whether the node rejected the call because it is not the leader.

        A conflict has the same code; a node that knows no leader sends no metadata, and only the text tells them
        apart.
        """
        return self.code is grpc.StatusCode.FAILED_PRECONDITION and (
            LEADER_METADATA in self.metadata or self.details.startswith(_NOT_LEADER)
        )

    @property
    def transient(self) -> bool:
        """Whether the outcome is unknown and the same call may succeed later or at another node."""
        return self.code in _TRANSIENT


class DialFailed(Exception):
    """No usable connection to one address. `permanent`: a retry would fail in the same way."""

    def __init__(self, reason: str, *, permanent: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.permanent = permanent


def stream_ended() -> CallFailed:
    """Return the failure for a stream that the coordinator ended; the leader keeps its streams open."""
    return CallFailed(grpc.StatusCode.UNAVAILABLE, "stream ended by the coordinator")


_DEFAULT_RETRY_AFTER_S = 1.0
_FINAL: Mapping[grpc.StatusCode, type[ClientError]] = {
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: Refused,
    grpc.StatusCode.UNAUTHENTICATED: Refused,
    grpc.StatusCode.ABORTED: Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: Conflict,
}


def final_error(failure: CallFailed) -> ClientError:
    """Return the error for an answer that a retry would not change."""
    text = failure.details or failure.code.name
    if failure.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE):
        field = failure.metadata.get(FIELD_METADATA, "")
        return InvalidSubmission(text.removeprefix(f"{field}: "), field)
    if failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Exhausted(text, retry_after(failure.metadata))
    if failure.code in _FINAL:
        return _FINAL[failure.code](text)
    return ServerFault(f"coordinator: internal error, {failure.code.name}: {text}; see its log")


def retry_after(metadata: Mapping[str, str]) -> float:
    """Return the seconds to wait that the coordinator sent in "retry-after"; 1 if it sent none."""
    try:
        seconds = float(metadata.get("retry-after", ""))
    except ValueError:
        return _DEFAULT_RETRY_AFTER_S
    return seconds if 0 < seconds < 3600 else _DEFAULT_RETRY_AFTER_S
