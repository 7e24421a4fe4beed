"""Errors of the gateway's API: problem details (RFC 9457), with one kind per cause.

A kind fixes the status, the title and the type URI, so that a program can distinguish causes and the API description
can list them. The detail is one line for people: what is wrong and what to do. It never repeats a private input.
"""

import math
from collections.abc import Mapping
from types import MappingProxyType

from zkp.daemon import problems as common
from zkp.daemon.problems import ProblemKind

MALFORMED = common.MALFORMED
NO_SUCH_PAGE = common.NO_SUCH_PAGE
METHOD_NOT_ALLOWED = common.METHOD_NOT_ALLOWED
EXPECTATION_FAILED = common.EXPECTATION_FAILED
INTERNAL = common.INTERNAL
INVALID_JSON = ProblemKind("invalid-json", 400, "The body is not valid JSON")
INVALID_FIELD = ProblemKind("invalid-field", 400, "Invalid field in the request")
INVALID_HEADER = ProblemKind("invalid-header", 400, "Invalid header in the request")
UNAUTHENTICATED = ProblemKind("unauthenticated", 401, "Authentication required")
FORBIDDEN = ProblemKind("forbidden", 403, "The caller's role may not use the task API")
NO_SUCH_TASK = ProblemKind("no-such-task", 404, "Task not found")
BODY_TIMEOUT = ProblemKind("body-timeout", 408, "Timeout while receiving the body")
TASK_ENDED = ProblemKind("task-ended", 409, "The task has already ended")
NOT_COMPLETED = ProblemKind("not-completed", 409, "The task is not completed")
KEY_REUSED = ProblemKind("idempotency-key-reused", 409, "Idempotency key already used with a different body")
BODY_TOO_LARGE = ProblemKind("body-too-large", 413, "The body is too large")
UNSUPPORTED_MEDIA_TYPE = ProblemKind("unsupported-media-type", 415, "The body must be unencoded application/json")
RATE_LIMITED = ProblemKind("rate-limited", 429, "Rate limit exceeded")
NETWORK_FAULT = ProblemKind("network-fault", 502, "Upstream request failed")
BUSY = ProblemKind("busy", 503, "The gateway is overloaded")
NETWORK_UNAVAILABLE = ProblemKind("network-unavailable", 503, "The proving network is unavailable")

KINDS = tuple(value for value in tuple(globals().values()) if isinstance(value, ProblemKind))


class ApiProblem(Exception):
    """An error to return to the caller.

    Args:
        kind: The cause.
        detail: One line for people.
        field: Path of the invalid field as the caller wrote it, or the name of a header or query parameter.
        retry_after: Seconds; rounded up to whole seconds in the Retry-After header.
        headers: Further headers of the response.
    """

    def __init__(
        self,
        kind: ProblemKind,
        detail: str,
        field: str | None = None,
        *,
        retry_after: float | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.field = field
        self._retry_after = retry_after
        self._headers = dict(headers)

    def __reduce__(self) -> tuple[type["ApiProblem"], tuple[ProblemKind, str, str | None]]:
        """Support pickling from a process pool; problems raised there have no headers."""
        return type(self), (self.kind, self.detail, self.field)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the response."""
        if self._retry_after is None:
            return self._headers
        return {**self._headers, "Retry-After": str(max(1, math.ceil(self._retry_after)))}

    def document(self, request_id: str) -> dict[str, str | int]:
        """Return the response body; `request_id` is the request's id in the log."""
        members = self.kind.document(self.detail, request_id=request_id)
        if self.field is not None:
            members["field"] = self.field
        return members


def invalid_field(field: str, message: str) -> ApiProblem:
    """Return the problem for an invalid body field or query parameter; `message` follows the field's name."""
    return ApiProblem(INVALID_FIELD, f"{field}: {message}", field)
