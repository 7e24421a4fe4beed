"""The mapping of errors to gRPC statuses, with details and trailing metadata."""

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from coordinator.errors import (
    AlreadyExists,
    CoordinatorError,
    FalseProof,
    Forbidden,
    InvalidRequest,
    NotFound,
    NotTransferred,
    Overloaded,
    StaleReport,
    Superseded,
    TaskEnded,
    TimedOut,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from coordinator.raft import NotLeader, OutcomeUnknown

LEADER_METADATA = "zkp-leader"
FIELD_METADATA = "zkp-field"
RETRY_METADATA = "retry-after"  # seconds

_CODES: dict[type[Exception], grpc.StatusCode] = {
    InvalidRequest: grpc.StatusCode.INVALID_ARGUMENT,
    FalseProof: grpc.StatusCode.INVALID_ARGUMENT,
    NotFound: grpc.StatusCode.NOT_FOUND,
    AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    TaskEnded: grpc.StatusCode.FAILED_PRECONDITION,
    NotTransferred: grpc.StatusCode.FAILED_PRECONDITION,
    StaleReport: grpc.StatusCode.ABORTED,
    Superseded: grpc.StatusCode.ABORTED,
    Forbidden: grpc.StatusCode.PERMISSION_DENIED,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
    TimedOut: grpc.StatusCode.DEADLINE_EXCEEDED,
}

KNOWN = (CoordinatorError, NotLeader, OutcomeUnknown)
"""What a handler may raise to be answered with its own status; anything else is a fault of the program."""

FindLeader = Callable[[], str | None]
"""HOST:PORT of the leader's gRPC address; None while none is known or it is this node itself."""


@dataclass(frozen=True, slots=True)
class RpcStatus:
    """How a call ends. metadata: trailing, (key, value)."""

    code: grpc.StatusCode
    details: str
    metadata: tuple[tuple[str, str], ...] = ()


def status_of(error: Exception, find_leader: FindLeader) -> RpcStatus:
    """Return the gRPC status of one of the `KNOWN` errors."""
    if isinstance(error, NotLeader):
        return _not_leader(find_leader())
    if isinstance(error, OutcomeUnknown):
        return RpcStatus(grpc.StatusCode.UNAVAILABLE, "outcome unknown: send the same id again")
    metadata: tuple[tuple[str, str], ...] = ()
    if isinstance(error, InvalidRequest):
        metadata = ((FIELD_METADATA, error.field),)
    elif isinstance(error, Overloaded):
        metadata = ((RETRY_METADATA, f"{error.retry_after_s:g}"),)
    return RpcStatus(_CODES.get(type(error), grpc.StatusCode.UNKNOWN), str(error), metadata)


def _not_leader(address: str | None) -> RpcStatus:
    code = grpc.StatusCode.FAILED_PRECONDITION
    if address is None:
        return RpcStatus(code, "Not leader, and no leader is known at the moment: ask again")
    return RpcStatus(code, f"Not leader, connect to: {address}", ((LEADER_METADATA, address),))
