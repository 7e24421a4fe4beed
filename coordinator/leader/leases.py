"""Who was heard from when, and what is overdue: the leader's soft state, never replicated.

Pure: whoever calls says what time it is, in seconds of a clock that never runs backwards. Only the loss of a
lease is agreed on (`LoseLease`, `MarkOffline`); heartbeats are not, so a new leader knows nothing of them and
grants every lease one fresh period.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.state.commands import Command, LoseLease, MarkOffline
from coordinator.state.machine import State
from coordinator.state.model import EventKind, Task, TaskEvent, TaskState, Worker, WorkerState

_LATE_SWEEP = 0.5  # of a lease: a sweep that comes later says that this process slept, not the workers


@dataclass(frozen=True, slots=True)
class LeaseTiming:
    """Seconds. `lease_s`: how long a worker's silence is forgiven; `start_s`: from assignment to the start
    report; `limit_s`: from the start report to the end of the attempt."""

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
    """Deadlines of the workers that are online and of the attempts that they hold.

    A sweep looks at all of them: they are as many as the workers' slots, however long the queue is.
    """

    def __init__(self, timing: LeaseTiming) -> None:
        self._timing = timing
        self._workers: dict[str, _WorkerLease] = {}
        self._attempts: dict[str, _AttemptLease] = {}
        self._heard: dict[str, float] = {}
        self._swept = 0.0

    def begin(self, state: State, now: float) -> None:
        """This node leads from `now` on: a fresh period for every worker and every attempt in `state`."""
        self.end()
        self._swept = now
        for worker in state.workers.values():
            if worker.state is WorkerState.ONLINE:
                self._watch_worker(worker, now)
        for held in state.leases.values():
            for task_id in held:
                self._watch_attempt(state.tasks[task_id], now)

    def end(self) -> None:
        """This node leads no more: what it knew is worth nothing to it."""
        self._workers.clear()
        self._attempts.clear()
        self._heard.clear()

    def heard(self, worker_id: str, now: float) -> None:
        """A sign of life. Of a worker that is not online it changes nothing but `last_heard`."""
        self._heard[worker_id] = now
        lease = self._workers.get(worker_id)
        if lease is not None:
            lease.deadline = now + self._timing.lease_s

    def last_heard(self, worker_id: str) -> float | None:
        """When this leader last heard of the worker; None if it never did."""
        return self._heard.get(worker_id)

    def observe(self, events: Sequence[TaskEvent], now: float) -> None:
        """Follow what was agreed: new leases get deadlines, ended ones lose theirs."""
        for event in events:
            if event.task is not None:
                if event.task.state.leased:
                    self._watch_attempt(event.task, now)
                else:
                    self._attempts.pop(event.task.id, None)
            elif event.worker is not None:
                if event.kind is EventKind.WORKER_REGISTERED:
                    self._heard[event.worker.id] = now
                if event.worker.state is WorkerState.ONLINE:
                    self._watch_worker(event.worker, now)
                else:
                    self._workers.pop(event.worker.id, None)

    def expired(self, now: float) -> list[Command]:
        """What is overdue, as commands to propose.

        Each comes back one period later unless an event says that it was agreed, so a proposal that got lost
        is made again. After a pause of this very process nothing is overdue: all get a fresh period.
        """
        late = now - self._swept > self._timing.lease_s * _LATE_SWEEP
        self._swept = now
        if late:
            self._grant_fresh_period(now)
            return []
        return [*self._silent_workers(now), *self._overdue_attempts(now)]

    def _silent_workers(self, now: float) -> list[Command]:
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

    def _watch_worker(self, worker: Worker, now: float) -> None:
        self._workers[worker.id] = _WorkerLease(worker.incarnation, now + self._timing.lease_s)

    def _watch_attempt(self, task: Task, now: float) -> None:
        started = task.state is TaskState.IN_PROGRESS
        self._attempts[task.id] = _AttemptLease(task.attempt, started, now + self._period(started=started))

    def _period(self, *, started: bool) -> float:
        return self._timing.limit_s if started else self._timing.start_s
