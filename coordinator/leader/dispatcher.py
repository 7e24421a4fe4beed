"""The leader's loop that proposes assignments. It sleeps until an event makes an assignment possible."""

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

_NOT_RELEVANT = frozenset({EventKind.TASK_ASSIGNED, EventKind.TASK_STARTED})
_UNKNOWN_OUTCOME_DELAY_S = 0.1
_READ_CHUNK = 5_000
"""Queued tasks that a new leader reads before it yields to its heartbeats; takes some milliseconds."""


class Dispatcher:
    """Proposes rounds of at most `limit` assignments, one round at a time.

    Assignments reach the worker's stream through the applied events, so that an assignment whose outcome stayed
    unknown is delivered too if it was committed.
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
        self._backoff = WorkerBackoff()
        self._pending: PendingTasks | None = None
        self._wake = asyncio.Event()
        streams.on_change = self.wake

    def begin(self) -> None:
        """Start as leader with the present queue; from then on `observe` updates it."""
        self._backoff.clear()
        self._pending = PendingTasks(self._replicator.state)
        self.wake()

    def end(self) -> None:
        """Discard the soft state, because leadership ended."""
        self._pending = None
        self._backoff.clear()

    def observe(self, events: Sequence[TaskEvent]) -> None:
        """Update the queue, and wake the loop for events that may make an assignment possible."""
        if self._pending is None:
            return
        self._pending.observe(events)
        self._backoff.observe(events, self._clock())
        if any(event.kind not in _NOT_RELEVANT for event in events):
            self.wake()

    def wake(self) -> None:
        """Wake the loop for another round."""
        self._wake.set()

    async def run(self) -> None:
        """Propose assignments while this node leads; raises NotLeader when it does not."""
        while self._pending is not None and not self._pending.read(_READ_CHUNK):  # noqa: ASYNC110 - heartbeats go between
            await asyncio.sleep(0)
        while True:
            await self._wait()
            if await self._round() == self._limit:
                self.wake()  # there may be more

    async def _wait(self) -> None:
        """Wait until something changed or the next worker backoff ends."""
        now = self._clock()
        back = self._backoff.next_expiry(now)
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
            backing_off=self._backoff.backing_off(self._clock()),
            last_failed_by=self._backoff.last_failed_by,
            serves=self._serves,
            limit=self._limit,
        )
        if not assignments:
            return 0
        try:
            outcomes = await self._replicator.submit_all(assignments)
        except OutcomeUnknown:
            log.warning("%d assignments have an unknown outcome: looking again", len(assignments))
            await asyncio.sleep(_UNKNOWN_OUTCOME_DELAY_S)
            self.wake()
            return 0
        if any(outcome.refusal is not None for outcome in outcomes):
            self.wake()  # the state changed between the plan and the commit
        return len(outcomes)
