"""What the gateway says when it refuses: problem details (RFC 9457), one kind a cause.

A kind fixes the status, the title and the type URI, so that a program can tell causes apart and the API
description can list them. The detail is one line for a person: what is wrong and what would be right. It
never repeats a private input.
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
INVALID_FIELD = ProblemKind("invalid-field", 400, "A field of the request is wrong")
INVALID_HEADER = ProblemKind("invalid-header", 400, "A header of the request is wrong")
UNAUTHENTICATED = ProblemKind("unauthenticated", 401, "Authentication required")
FORBIDDEN = ProblemKind("forbidden", 403, "This caller may not use the task API")
NO_SUCH_TASK = ProblemKind("no-such-task", 404, "No such task")
BODY_TIMEOUT = ProblemKind("body-timeout", 408, "The body did not arrive in time")
TASK_ENDED = ProblemKind("task-ended", 409, "The task has already ended")
NOT_COMPLETED = ProblemKind("not-completed", 409, "The task has no proof")
KEY_REUSED = ProblemKind("idempotency-key-reused", 409, "The idempotency key belongs to another submission")
BODY_TOO_LARGE = ProblemKind("body-too-large", 413, "The body is too large")
UNSUPPORTED_MEDIA_TYPE = ProblemKind("unsupported-media-type", 415, "The body is not plain application/json")
RATE_LIMITED = ProblemKind("rate-limited", 429, "Too many requests from this caller")
NETWORK_FAULT = ProblemKind("network-fault", 502, "The proving network failed")
BUSY = ProblemKind("busy", 503, "The gateway is busy")
NETWORK_UNAVAILABLE = ProblemKind("network-unavailable", 503, "The proving network cannot take this now")

KINDS = tuple(value for value in tuple(globals().values()) if isinstance(value, ProblemKind))


class ApiProblem(Exception):
    """A refusal on its way to the caller.

    `field` is the path of the field at fault as the caller wrote it, or the name of a header or a query
    parameter; `retry_after` is in seconds, and the header rounds it up to whole ones.
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
        """Survive the way back from a process pool; what the pool raises has no headers."""
        return type(self), (self.kind, self.detail, self.field)

    @property
    def headers(self) -> dict[str, str]:
        """Headers that belong to the refusal."""
        if self._retry_after is None:
            return self._headers
        return {**self._headers, "Retry-After": str(max(1, math.ceil(self._retry_after)))}

    def document(self, request_id: str) -> dict[str, str | int]:
        """The body, for a request known in the logs as `request_id`."""
        members = self.kind.document(self.detail, request_id=request_id)
        if self.field is not None:
            members["field"] = self.field
        return members


def wrong_field(field: str, message: str) -> ApiProblem:
    """A field of the body, or a query parameter, that is wrong: `message` follows the field's name."""
    return ApiProblem(INVALID_FIELD, f"{field}: {message}", field)
