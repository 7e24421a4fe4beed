"""Why the coordinator does not do what a caller asks. One line each, with the cure where there is one.

Use cases raise these; `rpc/errors.py` alone knows which gRPC status each of them is.
"""


class CoordinatorError(Exception):
    """Base of everything that the coordinator refuses on purpose."""


class InvalidRequest(CoordinatorError):
    """The request is wrong in `field`, a path as the caller wrote it ("circuit", "public_inputs[0]")."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class NotFound(CoordinatorError):
    """No such task, or no such registered worker."""


class AlreadyExists(CoordinatorError):
    """The task id belongs to another submission."""


class TaskEnded(CoordinatorError):
    """What was asked for is possible only before the task ends."""


class NotTransferred(CoordinatorError):
    """Leadership stays with this node; the message says why. Asking again changes nothing by itself."""


class StaleReport(CoordinatorError):
    """The attempt is over or another worker's: whoever reports it should drop it."""


class FalseProof(CoordinatorError):
    """The proof does not verify."""


class Forbidden(CoordinatorError):
    """The caller is known, and may not do this."""


class Unauthenticated(CoordinatorError):
    """The caller's certificate says nothing that this network accepts."""


class Overloaded(CoordinatorError):
    """As much is waiting as may wait; ask again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class TooLarge(CoordinatorError):
    """A message is longer than one may be."""


class Unavailable(CoordinatorError):
    """Not now, though it may work a moment later or at another node."""


class Superseded(CoordinatorError):
    """A newer stream of the same worker has taken this one's place."""


class TimedOut(CoordinatorError):
    """It was tried for as long as it may take."""
