"""Workers that prove, die, lie and repeat themselves, and each leader's dealings with them.

A leader's side is the real scheduler and the real leases over the real state; here are only the calls between them.
"""

import random
from dataclasses import dataclass, field

from coordinator.leader.leases import Leases, LeaseTiming
from coordinator.leader.scheduler import PendingTasks, plan
from coordinator.raft import RaftError
from coordinator.state.commands import (
    Assign,
    Command,
    Complete,
    Fail,
    MarkOffline,
    Quarantine,
    RegisterWorker,
    Release,
    Start,
)
from coordinator.state.model import Outcome, WorkerState
from tests.simulation.clients import PROVED
from tests.simulation.cluster import Cluster, Follower
from tests.simulation.node import SimNode

TIMING = LeaseTiming(lease_s=1.0, start_s=0.6, limit_s=2.0)
_SWEEP = 0.15
_BEAT = 0.3
_PATIENCE = 6
"""Times that a worker sends a report again that nobody has answered."""
GOOD, FALSE = b"a proof", b"a false proof"


@dataclass(slots=True)
class _Desk:
    """A leader's soft state about workers, for one term."""

    node: SimNode
    leases: Leases
    pending: PendingTasks
    connected: set[str] = field(default_factory=set)
    closed: bool = False


@dataclass(slots=True)
class Worker:
    """One machine that proves. `held`: task → attempt."""

    name: str
    starts: int = 1
    alive: bool = True
    lies: bool = False
    held: dict[str, int] = field(default_factory=dict)

    @property
    def incarnation(self) -> str:
        return f"{self.name}-{self.starts}"


class Workforce(Follower):
    """All workers, and the desks of all leaders."""

    def __init__(self, cluster: Cluster, rng: random.Random, count: int = 3) -> None:
        self._cluster = cluster
        self._rng = rng
        self._desks: dict[str, _Desk] = {}
        self.workers = {f"w{number}": Worker(f"w{number}") for number in range(1, count + 1)}
        for worker in self.workers.values():
            self._beat(worker, worker.starts)

    # ------------------------------------------------------------ faults

    def kill(self, worker: Worker) -> None:
        """Its process is gone, with all that it held."""
        worker.alive = False
        worker.held.clear()

    def restart(self, worker: Worker) -> None:
        if worker.alive:
            return
        worker.alive = True
        worker.starts += 1
        self._beat(worker, worker.starts)

    # ------------------------------------------------------------ the leaders' side

    def leads(self, node: SimNode, term: int) -> None:
        self.leads_no_more(node)
        desk = _Desk(node, Leases(TIMING), PendingTasks(node.machine.state))
        desk.leases.begin(node.machine.state, self._cluster.time)
        self._desks[node.name] = desk
        node.on_events(lambda events: None if desk.closed else desk.pending.observe(events))
        node.on_events(lambda events: None if desk.closed else desk.leases.observe(events, self._cluster.time))
        self._sweep(desk)

    def leads_no_more(self, node: SimNode) -> None:
        desk = self._desks.pop(node.name, None)
        if desk is not None:
            desk.closed = True
            desk.leases.end()

    def _sweep(self, desk: _Desk) -> None:
        """Take back what is overdue, give out what waits, release who was quarantined."""
        if desk.closed:
            return
        self._cluster.at(_SWEEP, lambda: self._sweep(desk))
        if desk.node.paused:
            return
        state = desk.node.machine.state
        commands: list[Command] = list(desk.leases.expired(self._cluster.time))
        for command in commands:
            if isinstance(command, MarkOffline):
                desk.connected.discard(command.worker_id)
        commands += plan(
            state,
            desk.pending,
            connected=sorted(desk.connected),
            backing_off=(),
            last_failed_by={},
            serves=lambda circuit: circuit == PROVED.name,
            limit=8,
        )
        quarantined = [worker for worker in state.workers.values() if worker.state is WorkerState.QUARANTINED]
        commands += [Release(worker.id) for worker in quarantined if self._rng.random() < 0.1]
        if commands:
            desk.node.propose(commands, lambda result: self._given_out(commands, result))

    def _given_out(self, commands: list[Command], result: list[Outcome] | RaftError) -> None:
        if isinstance(result, RaftError):
            return
        for command, outcome in zip(commands, result, strict=True):
            if isinstance(command, Assign) and outcome.task is not None and outcome.refusal is None:
                self._deliver(command.worker_id, command.task_id, outcome.task.attempt)

    def _deliver(self, worker_id: str, task_id: str, attempt: int) -> None:
        worker = self.workers[worker_id]
        starts = worker.starts

        def arrive() -> None:
            if worker.alive and worker.starts == starts:
                worker.held[task_id] = attempt
                self._report(worker, Start(task_id, worker.name, attempt))
                self._cluster.at(self._rng.uniform(0.05, 0.6), lambda: self._finish(worker, starts, task_id, attempt))

        self._cluster.at(self._rng.uniform(0.0, 0.05), arrive)

    # ------------------------------------------------------------ the workers' side

    def _desk(self) -> _Desk | None:
        """Of a node that says that it leads: one that was deposed may still say so."""
        open_desks = [desk for _, desk in sorted(self._desks.items())]
        return self._rng.choice(open_desks) if open_desks else None

    def _beat(self, worker: Worker, starts: int) -> None:
        """A heartbeat; to a leader that does not know the worker, it introduces itself."""
        if not worker.alive or worker.starts != starts:
            return
        self._cluster.at(_BEAT, lambda: self._beat(worker, starts))
        desk = self._desk()
        if desk is None or desk.node.paused:
            return
        known = desk.node.machine.state.workers.get(worker.name)
        if known is not None and known.incarnation == worker.incarnation and known.state is WorkerState.ONLINE:
            desk.connected.add(worker.name)
            desk.leases.heard(worker.name, self._cluster.time)
            return
        held = tuple(sorted(worker.held.items()))
        register = RegisterWorker(worker.name, worker.incarnation, 2, frozenset((PROVED.name,)), held, "1")

        def registered(result: list[Outcome] | RaftError) -> None:
            if isinstance(result, list) and not desk.closed and result[-1].refusal is None:
                desk.connected.add(worker.name)
                for task_id, attempt in result[-1].dropped:
                    if worker.held.get(task_id) == attempt:
                        del worker.held[task_id]

        desk.node.propose([PROVED, register], registered)

    def _finish(self, worker: Worker, starts: int, task_id: str, attempt: int) -> None:
        """What has become of an attempt: proved, mostly; some workers fail, some lie, some fall silent."""
        if not worker.alive or worker.starts != starts or worker.held.get(task_id) != attempt:
            return
        chance = self._rng.random()
        if chance < 0.05:
            return  # it hangs
        if chance < 0.12:
            released = chance < 0.08
            self._report(
                worker, Fail(task_id, worker.name, attempt, "prover", "failed", retryable=True, released=released)
            )
        elif worker.lies:
            self._lie(worker, task_id, attempt)
        else:
            self._report(worker, Complete(task_id, worker.name, attempt, GOOD))
            if chance > 0.9:  # the answer to the first was lost
                self._report(worker, Complete(task_id, worker.name, attempt, GOOD))

    def _lie(self, worker: Worker, task_id: str, attempt: int) -> None:
        """A false proof; a result for another attempt, in another's name, or of a task that is not its own."""
        other = self._rng.choice(sorted(self.workers))
        lies = (
            Complete(task_id, worker.name, attempt, FALSE),
            Complete(task_id, worker.name, attempt + 1, GOOD),
            Complete(task_id, worker.name, max(1, attempt - 1), GOOD),
            Complete(f"c{self._rng.randint(1, 40)}", worker.name, 1, GOOD),
            Fail(task_id, other, attempt, "prover", "not mine to say", retryable=False),
        )
        lie = self._rng.choice(lies)
        if isinstance(lie, Fail) and lie.worker_id != worker.name:
            return  # a worker speaks for itself only: its certificate says who it is
        self._report(worker, lie)

    def _report(self, worker: Worker, report: Start | Complete | Fail, again: int = 0) -> None:
        """Sent until it is answered, to whoever says that it leads."""
        if not worker.alive or again > _PATIENCE:
            return
        desk = self._desk()
        answered = False

        def done(result: list[Outcome] | RaftError) -> None:
            nonlocal answered
            answered = answered or isinstance(result, list)
            if answered and not isinstance(report, Start):
                worker.held.pop(report.task_id, None)

        if desk is not None:
            command: Command = report
            if isinstance(report, Complete) and report.proof == FALSE:
                command = Quarantine(worker.name, "sent a false proof")
            desk.node.propose([command], done)

        def look() -> None:
            if not answered:
                self._report(worker, report, again + 1)

        self._cluster.at(0.4, look)
