"""Heartbeats of workers and deadlines of leases: the leader's soft state, never replicated.

Pure: the caller passes the time, in monotonic seconds. Only the loss of a lease is replicated (`LoseLease`,
`MarkOffline`). Heartbeats are not: a new leader does not know them and grants every lease one fresh period.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.state.commands import Command, LoseLease, MarkOffline
from coordinator.state.machine import State
from coordinator.state.model import EventKind, Task, TaskEvent, TaskState, Worker, WorkerState

_LATE_SWEEP_FRACTION = 0.5  # of a lease: a later sweep means that this process was paused, not the workers


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Time limits in seconds.

    `lease_s` is the heartbeat timeout of a worker, `start_s` the limit from assignment to the start report, `limit_s`
    the limit from the start report to the end of the attempt.
    """

    lease_s: float
    start_s: float
    limit_s: float


@dataclass(slots=True)
class _WorkerLease:
    incarnation: str
    deadline: float


@dataclass(slots=True)
class _AttemptLease:
    attempt: int
    started: bool
    deadline: float


class Leases:
    """Deadlines of the online workers and of their attempts.

    A sweep checks all of them: their number is bounded by the workers' slots, however long the queue is.
    """

    def __init__(self, timing: LeaseTiming) -> None:
        self._timing = timing
        self._workers: dict[str, _WorkerLease] = {}
        self._attempts: dict[str, _AttemptLease] = {}
        self._last_heartbeat: dict[str, float] = {}
        self._swept = 0.0

    def begin(self, state: State, now: float) -> None:
        """Start as leader: grant a fresh period to every worker and every attempt in `state`."""
        self.end()
        self._swept = now
        for worker in state.workers.values():
            if worker.state is WorkerState.ONLINE:
                self._track_worker(worker, now)
        for held in state.leases.values():
            for task_id in held:
                self._track_attempt(state.tasks[task_id], now)

    def end(self) -> None:
        """Discard all soft state, because this node lost leadership."""
        self._workers.clear()
        self._attempts.clear()
        self._last_heartbeat.clear()

    def heard(self, worker_id: str, now: float) -> None:
        """Record a heartbeat. For a worker that is not online only `last_heard` changes."""
        self._last_heartbeat[worker_id] = now
        lease = self._workers.get(worker_id)
        if lease is not None:
            lease.deadline = now + self._timing.lease_s

    def last_heard(self, worker_id: str) -> float | None:
        """Return when this leader last received from the worker; None if it never did."""
        return self._last_heartbeat.get(worker_id)

    def observe(self, events: Sequence[TaskEvent], now: float) -> None:
        """Update the deadlines: add those of new leases, remove those of ended ones."""
        for event in events:
            if event.task is not None:
                if event.task.state.leased:
                    self._track_attempt(event.task, now)
                else:
                    self._attempts.pop(event.task.id, None)
            elif event.worker is not None:
                if event.kind is EventKind.WORKER_REGISTERED:
                    self._last_heartbeat[event.worker.id] = now
                if event.worker.state is WorkerState.ONLINE:
                    self._track_worker(event.worker, now)
                else:
                    self._workers.pop(event.worker.id, None)

    def expired(self, now: float) -> list[Command]:
        """Return the commands to propose for everything that is overdue.

        Each is returned again one period later unless an event shows that it was committed, so that a lost proposal
        is repeated. After a pause of this process nothing is overdue: all deadlines get a fresh period.
        """
        late = now - self._swept > self._timing.lease_s * _LATE_SWEEP_FRACTION
        self._swept = now
        if late:
            self._grant_fresh_period(now)
            return []
        return [*self._timed_out_workers(now), *self._overdue_attempts(now)]

    def _timed_out_workers(self, now: float) -> list[Command]:
        commands: list[Command] = []
        for worker_id, lease in self._workers.items():
            if lease.deadline <= now:
                lease.deadline = now + self._timing.lease_s
                commands.append(MarkOffline(worker_id, lease.incarnation))
        return commands

    def _overdue_attempts(self, now: float) -> list[Command]:
        commands: list[Command] = []
        for task_id, lease in self._attempts.items():
            if lease.deadline <= now:
                lease.deadline = now + self._timing.lease_s
                if lease.started:
                    message = f"no result within {self._timing.limit_s:g} s"
                else:
                    message = f"not started within {self._timing.start_s:g} s"
                commands.append(LoseLease(task_id, lease.attempt, "timeout", message))
        return commands

    def _grant_fresh_period(self, now: float) -> None:
        for worker in self._workers.values():
            worker.deadline = now + self._timing.lease_s
        for attempt in self._attempts.values():
            attempt.deadline = now + self._period(started=attempt.started)

    def _track_worker(self, worker: Worker, now: float) -> None:
        self._workers[worker.id] = _WorkerLease(worker.incarnation, now + self._timing.lease_s)

    def _track_attempt(self, task: Task, now: float) -> None:
        started = task.state is TaskState.IN_PROGRESS
        self._attempts[task.id] = _AttemptLease(task.attempt, started, now + self._period(started=started))

    def _period(self, *, started: bool) -> float:
        return self._timing.limit_s if started else self._timing.start_s
