"""Observation of the store; the coordinator's metrics implement it."""

from collections.abc import Iterator
from contextlib import contextmanager


class StoreObserver:
    """Receives every query and every batch; this base class does nothing."""

    @contextmanager
    def query_timer(self, operation: str) -> Iterator[None]:  # noqa: ARG002 - for subclasses
        """Measure a query, which runs within this context; operation: "connect", "read" or "write"."""
        yield

    def wrote(self, events: int) -> None:
        """Count a batch of `events` events that was written."""

    def refused(self) -> None:
        """Count a refused write: this node was deposed, or the database has another history."""
