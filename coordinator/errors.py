"""The errors of the use cases. Each message is one line, with the remedy where there is one.

Use cases raise them; only `rpc/errors.py` maps them to gRPC statuses.
"""


class CoordinatorError(Exception):
    """Base of all deliberate refusals."""


class InvalidRequest(CoordinatorError):
    """The request is invalid in `field`, a path in the caller's terms ("circuit", "public_inputs[0]")."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class NotFound(CoordinatorError):
    """The task or the registered worker does not exist."""


class AlreadyExists(CoordinatorError):
    """The task id belongs to another submission."""


class TaskEnded(CoordinatorError):
    """The operation is possible only before the task ends."""


class NotTransferred(CoordinatorError):
    """Leadership was not transferred; the message says why. A repeated request alone changes nothing."""


class StaleReport(CoordinatorError):
    """The attempt is over or belongs to another worker: the reporter should drop it."""


class FalseProof(CoordinatorError):
    """The proof does not verify."""


class Forbidden(CoordinatorError):
    """The caller is authenticated, but not authorized."""


class Unauthenticated(CoordinatorError):
    """The caller's certificate does not carry an identity that this network accepts."""


class Overloaded(CoordinatorError):
    """A limit on waiting work is reached; retry after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooLarge(CoordinatorError):
    """A message exceeds the maximum size."""


class Unavailable(CoordinatorError):
    """A temporary failure; a retry, or another node, may succeed."""


class Superseded(CoordinatorError):
    """A newer stream of the same worker replaced this one."""


class TimedOut(CoordinatorError):
    """The time limit of the operation has passed."""
