"""Errors of the client library. They are final: everything that can be retried has been retried."""

from collections.abc import Mapping


class ClientError(Exception):
    """Base class of the client library's errors."""


class InvalidAddress(ClientError):
    """A coordinator's address is not HOST:PORT."""


class NoLeader(ClientError):
    """No leader was reached before the deadline; `tried` maps each address to its last result."""

    def __init__(self, message: str, tried: Mapping[str, str]) -> None:
        super().__init__(message)
        self.tried = dict(tried)


class Untrusted(NoLeader):
    """The TLS handshake failed permanently with every address."""


class NotFound(ClientError):
    """There is no such task or worker, or it has been evicted."""


class AlreadyExists(ClientError):
    """A different submission was accepted with this task id."""


class InvalidSubmission(ClientError):
    """The request is invalid in `field` (a dotted path; empty if the coordinator named none).

    `str()` is the description, without the field.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Refused(ClientError):
    """The caller's certificate does not permit this, or the worker is quarantined."""


class Exhausted(ClientError):
    """The network is at capacity; retry after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Conflict(ClientError):
    """The state does not permit this: the task or attempt has ended, or the leadership transfer failed."""


class ServerFault(ClientError):
    """Internal error of a coordinator; see its log."""
