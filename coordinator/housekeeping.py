"""Forgetting: finished tasks leave memory once the record has them and their retention has passed.

The record's acknowledgments carry that along while there is work; this duty sees to it when nothing happens.
"""

import asyncio
from collections.abc import Callable

from coordinator.commands import Projected
from coordinator.replication import Replicator

_SHORTEST_PERIOD_S = 1.0


class Housekeeping:
    """retention_s: how long a finished task stays; clock_ms: wall clock."""

    def __init__(self, replicator: Replicator, retention_s: float, clock_ms: Callable[[], int]) -> None:
        self._replicator = replicator
        self._retention_s = retention_s
        self._clock_ms = clock_ms

    async def run(self) -> None:
        """The leader's duty: look ten times in a retention, and no more than once a second."""
        while True:
            await asyncio.sleep(max(_SHORTEST_PERIOD_S, self._retention_s / 10))
            if self.due():
                await self.acknowledge(self._replicator.state.projected)

    def due(self) -> bool:
        """Whether the task that ended first may go."""
        state = self._replicator.state
        oldest = next(iter(state.finished), None)
        if oldest is None:
            return False
        task = state.tasks[oldest]
        return task.revision <= state.projected and task.finished_ms < self._forget_before_ms()

    async def acknowledge(self, revision: int) -> None:
        """The record holds everything up to `revision`: events may go at once, tasks after the retention."""
        await self._replicator.submit(Projected(revision, self._forget_before_ms()))

    def _forget_before_ms(self) -> int:
        return self._clock_ms() - int(self._retention_s * 1000)
