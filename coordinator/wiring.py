"""Composition of everything between Raft and the network listeners: use cases, soft state, the leader's tasks.

Applied events reach every part here, in a fixed order: first the parts that decide (queue, leases), then the parts
that publish (streams, watchers, metrics, log).
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
_SWEEPS_PER_LEASE = 20
_MAX_SWEEP_INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class Dependencies:
    """What `Services` depends on.

    keep_record, retention_task: tasks of the leader: projection, and eviction of projected tasks; clock: monotonic
    seconds.
    """

    replicator: Replicator
    record: TaskHistory
    projection_task: LeaderTask
    retention_task: LeaderTask
    keys: CircuitKeys
    verification: Verification
    metrics: Metrics
    clock: Callable[[], float]


class Services:
    """One node's services. They are registered with the replicator at construction."""

    def __init__(self, dependencies: Dependencies, limits: TaskLimits, timing: LeaseTiming) -> None:
        replicator = dependencies.replicator
        self._replicator = replicator
        self._clock = dependencies.clock
        self._metrics = dependencies.metrics
        self._sweep_s = min(timing.lease_s / _SWEEPS_PER_LEASE, _MAX_SWEEP_INTERVAL_S)
        self.leases = Leases(timing)
        self.streams = AssignmentStreams()
        self.watchers = TaskWatchers(_MAX_WATCHERS)
        self._dispatcher = Dispatcher(replicator, self.streams, dependencies.keys.serves, dependencies.clock)
        self.tasks = Tasks(replicator, dependencies.record, dependencies.keys, self.watchers, limits)
        self.workers = Workers(replicator, self.leases, self.streams, dependencies.keys, dependencies.clock)
        self.reports = Reports(
            replicator, dependencies.keys, dependencies.verification, dependencies.metrics.tasks.checked
        )
        self.leadership = Leadership(
            begin=self._begin,
            end=self._end,
            prepare=lambda _: dependencies.keys.register(),
            tasks={
                "scheduler": lambda _: self._dispatcher.run(),
                "lease sweep": lambda _: self._sweep(),
                "projection": dependencies.projection_task,
                "housekeeping": dependencies.retention_task,
            },
        )
        replicator.on_events(self._applied)
        replicator.on_leadership(self.leadership.changed)

    @property
    def ready(self) -> bool:
        """True while this node leads and is prepared to accept work."""
        return self.leadership.ready.is_set()

    @property
    def connected(self) -> int:
        """The number of workers with an open assignment stream."""
        return len(self.streams.connected)

    async def stop(self, reason: Exception) -> None:
        """Stop the leader's tasks, and end every open stream with `reason`."""
        await self.leadership.stop()
        self.streams.end_all(reason)
        self.watchers.end_all(reason)

    def _begin(self) -> None:
        self.leases.begin(self._replicator.state, self._clock())
        self._dispatcher.begin()

    def _end(self) -> None:
        gone = NotLeader(self._replicator.leader_id)
        self.leases.end()
        self._dispatcher.end()
        self.workers.end()
        self.streams.end_all(gone)
        self.watchers.end_all(gone)

    def _applied(self, events: Sequence[TaskEvent]) -> None:
        """Pass applied events on. A follower's soft state stays empty, because it decides and publishes nothing."""
        if not self._replicator.is_leader:
            return
        try:
            self._publish(events)
        except Exception:
            # A listener must never stop the state: entries continue to be applied, alike on every node.
            log.exception("events %d to %d were not followed", events[0].revision, events[-1].revision)

    def _publish(self, events: Sequence[TaskEvent]) -> None:
        self.leases.observe(events, self._clock())
        self._dispatcher.observe(events)
        self.streams.observe(events)
        self.watchers.observe(events)
        self._metrics.observe(events)
        task_log.write(events, self._replicator.term)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self._sweep_s)
            overdue = self.leases.expired(self._clock())
            if overdue:
                await self._replicator.submit_all(overdue)
