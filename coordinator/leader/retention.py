"""Retention: evict finished tasks once they are projected and the retention period has elapsed.

The projection's acknowledgments evict tasks while there is work; the retention loop does so while there is none.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from coordinator.replication.replicator import Replicator
from coordinator.state.commands import Projected

_MIN_CHECK_INTERVAL_S = 1.0
_CHECKS_PER_PERIOD = 10
"""Samples of the revision, and checks, per retention period."""


class Retention:
    """The newest revision that is older than the retention period, by a monotonic clock: wall time can jump.

    A leader knows when it saw which revision. A new leader has no samples, so tasks then stay a little longer.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._term = 0
        self._seen: deque[tuple[float, int]] = deque()
        """(monotonic seconds, revision), oldest first."""
        self._expired = 0

    def expired_revision(self, now: float, term: int, revision: int) -> int:
        """Return the newest revision that is at least the retention period old; 0 while none is known to be.

        Args:
            now: Monotonic seconds.
            term: The leader's term now.
            revision: The revision of the leader's state now.
        """
        if term != self._term:
            self._term, self._expired = term, 0
            self._seen.clear()
        if not self._seen or now - self._seen[-1][0] >= self._seconds / _CHECKS_PER_PERIOD:
            self._seen.append((now, revision))
        while self._seen and now - self._seen[0][0] >= self._seconds:
            self._expired = self._seen.popleft()[1]
        return self._expired


class RetentionLoop:
    """The leader's loop that evicts finished tasks.

    `retention_s` is the minimum time that a finished task stays in memory; `clock` returns monotonic seconds.
    """

    def __init__(self, replicator: Replicator, retention_s: float, clock: Callable[[], float]) -> None:
        self._replicator = replicator
        self._retention_s = retention_s
        self._retention = Retention(retention_s)
        self._clock = clock

    async def run(self) -> None:
        """Check ten times per retention period, and at most once per second, until cancelled."""
        while True:
            await asyncio.sleep(max(_MIN_CHECK_INTERVAL_S, self._retention_s / _CHECKS_PER_PERIOD))
            if self.due():
                await self.acknowledge(self._replicator.state.projected)

    def due(self) -> bool:
        """Return whether the task that finished first can be evicted."""
        expired = self._expired_revision()
        state = self._replicator.state
        oldest = next(iter(state.finished), None)
        return oldest is not None and state.tasks[oldest].revision <= min(state.projected, expired)

    async def acknowledge(self, revision: int) -> None:
        """Note that the projection holds all events up to `revision`.

        Events leave the outbox at once, finished tasks leave memory after the retention period.
        """
        await self._replicator.submit(Projected(revision, self._expired_revision()))

    def _expired_revision(self) -> int:
        return self._retention.expired_revision(self._clock(), self._replicator.term, self._replicator.state.revision)
