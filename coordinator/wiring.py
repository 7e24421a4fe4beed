"""Everything between Raft and the network listeners, put together: use cases, soft state, the leader's duties.

Applied events reach every part here in one place and one order: first what decides (queue, leases), then what
tells (streams, watches, metrics, log).
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from coordinator.leader.assignment_streams import AssignmentStreams
from coordinator.leader.dispatcher import Dispatcher
from coordinator.leader.leadership import Leadership, LeaderTask
from coordinator.leader.leases import Leases, LeaseTiming
from coordinator.leader.watchers import TaskWatchers
from coordinator.monitoring import task_log
from coordinator.monitoring.registry import Metrics
from coordinator.raft import NotLeader
from coordinator.replication.replicator import Replicator
from coordinator.services.circuit_keys import CircuitKeys
from coordinator.services.reports import Reports
from coordinator.services.tasks import TaskHistory, TaskLimits, Tasks
from coordinator.services.verification import Verification
from coordinator.services.workers import Workers
from coordinator.state.model import TaskEvent

log = logging.getLogger("zkp.coordinator")

_MAX_WATCHERS = 10_000
_SWEEPS_A_LEASE = 20
_LONGEST_SWEEP_S = 0.5


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What the services are given.

    keep_record, keep_house: the leader's duties that write the record, and forget what it has; clock: monotonic
    seconds.
    """

    replicator: Replicator
    record: TaskHistory
    keep_record: LeaderTask
    keep_house: LeaderTask
    keys: CircuitKeys
    verification: Verification
    metrics: Metrics
    clock: Callable[[], float]


class Services:
    """One node's services. They listen to the replicator from their construction on."""

    def __init__(self, outside: Dependencies, limits: TaskLimits, timing: LeaseTiming) -> None:
        replicator = outside.replicator
        self._replicator = replicator
        self._clock = outside.clock
        self._metrics = outside.metrics
        self._sweep_s = min(timing.lease_s / _SWEEPS_A_LEASE, _LONGEST_SWEEP_S)
        self.leases = Leases(timing)
        self.streams = AssignmentStreams()
        self.watches = TaskWatchers(_MAX_WATCHERS)
        self._dispatcher = Dispatcher(replicator, self.streams, outside.keys.serves, outside.clock)
        self.tasks = Tasks(replicator, outside.record, outside.keys, self.watches, limits)
        self.workers = Workers(replicator, self.leases, self.streams, outside.keys, outside.clock)
        self.reports = Reports(replicator, outside.keys, outside.verification, outside.metrics.tasks.checked)
        self.leadership = Leadership(
            begin=self._begin,
            end=self._end,
            prepare=lambda _: outside.keys.register(),
            duties={
                "scheduler": lambda _: self._dispatcher.run(),
                "lease sweep": lambda _: self._sweep(),
                "projection": outside.keep_record,
                "housekeeping": outside.keep_house,
            },
        )
        replicator.on_events(self._applied)
        replicator.on_leadership(self.leadership.changed)

    @property
    def ready(self) -> bool:
        """This node leads and has prepared what it needs to take work."""
        return self.leadership.ready.is_set()

    @property
    def connected(self) -> int:
        """Workers with an open stream."""
        return len(self.streams.connected)

    async def stop(self, reason: Exception) -> None:
        """End the duties, and with `reason` every open stream."""
        await self.leadership.stop()
        self.streams.end_all(reason)
        self.watches.end_all(reason)

    def _begin(self) -> None:
        self.leases.begin(self._replicator.state, self._clock())
        self._dispatcher.begin()

    def _end(self) -> None:
        gone = NotLeader(self._replicator.leader_id)
        self.leases.end()
        self._dispatcher.end()
        self.workers.end()
        self.streams.end_all(gone)
        self.watches.end_all(gone)

    def _applied(self, events: Sequence[TaskEvent]) -> None:
        """Follow what was agreed on. A follower's soft state stays empty: it decides nothing and tells nobody."""
        if not self._replicator.is_leader:
            return
        try:
            self._tell(events)
        except Exception:
            # What listens to the state must never stop the state: applying goes on, on every node alike.
            log.exception("events %d to %d were not followed", events[0].revision, events[-1].revision)

    def _tell(self, events: Sequence[TaskEvent]) -> None:
        self.leases.observe(events, self._clock())
        self._dispatcher.observe(events)
        self.streams.observe(events)
        self.watches.observe(events)
        self._metrics.observe(events)
        task_log.write(events, self._replicator.term)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_s)
            overdue = self.leases.expired(self._clock())
            if overdue:
                await self._replicator.submit_all(overdue)
