"""Everything that the client library raises on purpose: final, since what could be retried was retried."""

from collections.abc import Mapping


class ClientError(Exception):
    """Root of this package's errors."""


class InvalidAddress(ClientError):
    """A coordinator's address is not written HOST:PORT."""


class NoLeader(ClientError):
    """Nobody who leads could be reached before the deadline; `tried` says what each address answered."""

    def __init__(self, message: str, tried: Mapping[str, str]) -> None:
        super().__init__(message)
        self.tried = dict(tried)


class Untrusted(NoLeader):
    """Every address failed in its TLS handshake in a way that another try cannot cure."""


class NotFound(ClientError):
    """No such task or worker (or its record was already forgotten)."""


class AlreadyExists(ClientError):
    """Another submission was accepted under this task id."""


class InvalidSubmission(ClientError):
    """The request is wrong in `field` (a dotted path; empty when the coordinator named none).

    `str()` says what is wrong with it, without the field.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class Refused(ClientError):
    """The caller's certificate does not permit this, or the worker is quarantined."""


class Exhausted(ClientError):
    """The network has as much work as it may hold; try again after `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Conflict(ClientError):
    """The state does not permit this: the task or attempt has ended, or leadership could not be handed over."""


class ServerFault(ClientError):
    """The coordinator failed in a way that it should not; its log says more."""
