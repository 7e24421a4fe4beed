"""Forgetting: finished tasks leave memory once the record has them and their retention has passed.

The record's acknowledgments carry that along while there is work; this duty sees to it when nothing happens.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from coordinator.replication.replicator import Replicator
from coordinator.state.commands import Projected

_SHORTEST_PERIOD_S = 1.0
_LOOKS = 10
"""Times in a retention that a leader notes how far events have come."""


class Retention:
    """How far back the events are that are old enough, by a clock that never jumps: wall time does.

    A leader knows when it saw which event. A new one has seen nothing yet, so tasks stay a little longer then.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._term = 0
        self._seen: deque[tuple[float, int]] = deque()
        """(when, revision), oldest first."""
        self._over = 0

    def over(self, now: float, term: int, revision: int) -> int:
        """Every event up to this one happened at least `seconds` ago; 0 while none is known to.

        now: seconds of a clock that only goes forward; term, revision: of the leader and its state, now.
        """
        if term != self._term:
            self._term, self._over = term, 0
            self._seen.clear()
        if not self._seen or now - self._seen[-1][0] >= self._seconds / _LOOKS:
            self._seen.append((now, revision))
        while self._seen and now - self._seen[0][0] >= self._seconds:
            self._over = self._seen.popleft()[1]
        return self._over


class RetentionLoop:
    """retention_s: how long a finished task stays at least; clock: seconds, never set back or forward."""

    def __init__(self, replicator: Replicator, retention_s: float, clock: Callable[[], float]) -> None:
        self._replicator = replicator
        self._retention_s = retention_s
        self._retention = Retention(retention_s)
        self._clock = clock

    async def run(self) -> None:
        """The leader's duty: look ten times in a retention, and no more than once a second."""
        while True:
            await asyncio.sleep(max(_SHORTEST_PERIOD_S, self._retention_s / _LOOKS))
            if self.due():
                await self.acknowledge(self._replicator.state.projected)

    def due(self) -> bool:
        """Whether the task that ended first may go."""
        over = self._over()
        state = self._replicator.state
        oldest = next(iter(state.finished), None)
        return oldest is not None and state.tasks[oldest].revision <= min(state.projected, over)

    async def acknowledge(self, revision: int) -> None:
        """The record holds everything up to `revision`: events may go at once, tasks after the retention."""
        await self._replicator.submit(Projected(revision, self._over()))

    def _over(self) -> int:
        return self._retention.over(self._clock(), self._replicator.term, self._replicator.state.revision)
