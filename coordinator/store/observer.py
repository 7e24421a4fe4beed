"""Who is told how the record is reached: nobody here, the metrics in a daemon."""

from collections.abc import Iterator
from contextlib import contextmanager


class StoreObserver:
    """Told of every question to PostgreSQL and of every batch; this one forgets it."""

    @contextmanager
    def asking(self, operation: str) -> Iterator[None]:  # noqa: ARG002 - for those who listen
        """Within this context PostgreSQL is asked; operation: "connect", "read" or "write"."""
        yield

    def wrote(self, events: int) -> None:
        """A batch of so many events is in the record."""

    def refused(self) -> None:
        """The record refused this node's write: somebody else's turn, or somebody else's history."""
