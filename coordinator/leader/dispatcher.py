"""The leader's loop that proposes assignments. It sleeps until an event gives it a reason to look."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from coordinator.leader.assignment_streams import AssignmentStreams
from coordinator.leader.scheduler import PendingTasks, plan
from coordinator.leader.worker_backoff import WorkerBackoff
from coordinator.raft import OutcomeUnknown
from coordinator.replication.replicator import Replicator
from coordinator.state.model import EventKind, TaskEvent

log = logging.getLogger("zkp.coordinator")

_NO_REASON = frozenset({EventKind.TASK_ASSIGNED, EventKind.TASK_STARTED})
_AFTER_UNKNOWN_S = 0.1
_READ_AT_ONCE = 5_000
"""Tasks of the queue that a new leader reads before it lets its heartbeats go; some milliseconds."""


class Dispatcher:
    """Proposes rounds of at most `limit` assignments, one round at a time.

    What was assigned reaches the worker's stream through the applied events, not through here: so an assignment
    whose outcome stayed unknown is delivered too, if it happened.
    """

    def __init__(
        self,
        replicator: Replicator,
        streams: AssignmentStreams,
        serves: Callable[[str], bool],
        clock: Callable[[], float],
        limit: int = 256,
    ) -> None:
        self._replicator = replicator
        self._streams = streams
        self._serves = serves
        self._clock = clock
        self._limit = limit
        self._setbacks = WorkerBackoff()
        self._pending: PendingTasks | None = None
        self._wake = asyncio.Event()
        streams.on_change = self.wake

    def begin(self) -> None:
        """This node leads: read the queue as it is now; from here on `observe` keeps it."""
        self._setbacks.clear()
        self._pending = PendingTasks(self._replicator.state)
        self.wake()

    def end(self) -> None:
        """This node leads no more."""
        self._pending = None
        self._setbacks.clear()

    def observe(self, events: Sequence[TaskEvent]) -> None:
        """Follow the queue, and wake the loop for what may make an assignment possible."""
        if self._pending is None:
            return
        self._pending.observe(events)
        self._setbacks.observe(events, self._clock())
        if any(event.kind not in _NO_REASON for event in events):
            self.wake()

    def wake(self) -> None:
        """Something changed: look again."""
        self._wake.set()

    async def run(self) -> None:
        """Assign for as long as this node leads; raises NotLeader when it does not."""
        while self._pending is not None and not self._pending.read(_READ_AT_ONCE):  # noqa: ASYNC110 - heartbeats go between
            await asyncio.sleep(0)
        while True:
            await self._wait()
            if await self._round() == self._limit:
                self.wake()  # there may be more

    async def _wait(self) -> None:
        """Until something changed, or a resting worker may be given tasks again."""
        now = self._clock()
        back = self._setbacks.next_return(now)
        try:
            async with asyncio.timeout(None if back is None else back - now):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def _round(self) -> int:
        if self._pending is None:
            return 0
        assignments = plan(
            self._replicator.state,
            self._pending,
            connected=self._streams.connected,
            resting=self._setbacks.resting(self._clock()),
            avoided=self._setbacks.avoided,
            serves=self._serves,
            limit=self._limit,
        )
        if not assignments:
            return 0
        try:
            outcomes = await self._replicator.submit_all(assignments)
        except OutcomeUnknown:
            log.warning("%d assignments have an unknown outcome: looking again", len(assignments))
            await asyncio.sleep(_AFTER_UNKNOWN_S)
            self.wake()
            return 0
        if any(outcome.refusal is not None for outcome in outcomes):
            self.wake()  # the state moved on between the plan and the agreement
        return len(outcomes)
