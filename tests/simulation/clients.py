"""Clients that submit, cancel and look at tasks, at any node that says that it leads: their history."""

import random
from dataclasses import dataclass

from coordinator.raft import NotLeader, RaftError
from coordinator.state.commands import Cancel, Command, RegisterCircuit, Submit
from coordinator.state.model import Outcome, Task
from tests.simulation.cluster import Cluster, Follower
from tests.simulation.linearizability import DONE, NEW, Call, Kind, Status, linearizable
from tests.simulation.node import SimNode
from tests.simulation.record import SimRecord

PROVED = RegisterCircuit("merkle_proof", "cd" * 32)
"""The circuit of the tasks that workers prove."""
_SILENCE = 2.0
"""Seconds within which a caller is told something, be it that the outcome is unknown."""
_A_MOMENT = 1e-4
"""Seconds from one thing to the next, which then comes after it."""
_TASKS_A_SECOND = 6.0
_LATER = 2.5
"""Seconds within which all calls about a task are made; it must not be forgotten meanwhile."""


@dataclass(eq=False, slots=True)
class _Question:
    """A call without an answer. life: of the node's process when it was asked; told: that nobody knows."""

    kind: Kind
    began: float
    node: SimNode
    life: int
    told: bool = False


def seen(task: Task | None) -> Status:
    """What a client sees of it."""
    if task is None:
        return Status.ABSENT
    return Status(str(task.state)) if task.state.final else Status.LIVE


class Clients(Follower):
    """They go on for as long as the cluster runs."""

    def __init__(self, cluster: Cluster, rng: random.Random, record: SimRecord) -> None:
        self._cluster = cluster
        self._rng = rng
        self._record = record
        self._number = 0
        self.calls: dict[str, list[Call]] = {}
        """By task; a call whose answer is on its way counts as unanswered."""
        self._open: dict[str, list[_Question]] = {}
        cluster.at(1.0, self._go_on)

    def leads(self, node: SimNode, term: int) -> None:
        """Whoever has waited for a leader asks at once: an older one may not know yet that it was deposed."""
        task_id = self._new_task()
        self._cluster.at(0.0, lambda: self._ask(Kind.SUBMIT, task_id, node))

    def _new_task(self) -> str:
        self._number += 1
        return f"c{self._number}"

    def _go_on(self) -> None:
        """A task and what will be asked about it: it is submitted once or twice, looked at, maybe cancelled."""
        task_id = self._new_task()
        for _ in range(self._rng.choice((1, 1, 2))):
            self._later(Kind.SUBMIT, task_id)
        for _ in range(self._rng.randint(1, 3)):
            self._later(Kind.GET, task_id)
        if self._rng.random() < 0.3:
            self._later(Kind.CANCEL, task_id)
        self._cluster.at(self._rng.expovariate(_TASKS_A_SECOND), self._go_on)

    def _later(self, kind: Kind, task_id: str) -> None:
        self._cluster.at(self._rng.uniform(0.0, _LATER), lambda: self._call(kind, task_id))

    def _call(self, kind: Kind, task_id: str) -> None:
        believers = self._cluster.believers()
        if believers:
            self._ask(kind, task_id, self._rng.choice(believers))

    def _ask(self, kind: Kind, task_id: str, node: SimNode) -> None:
        command: tuple[Command, ...] = ()
        if kind is Kind.SUBMIT:
            command = PROVED, Submit(task_id, "client", PROVED.name, b"{}", ("7",), 3)
        elif kind is Kind.CANCEL:
            command = (Cancel(task_id),)
        asked, term = _Question(kind, self._cluster.time, node, node.life), node.leading_term or 0
        self._open.setdefault(task_id, []).append(asked)

        def done(result: list[Outcome] | RaftError) -> None:
            if isinstance(result, RaftError):
                if isinstance(result, NotLeader):
                    self._open[task_id].remove(asked)  # certainly not accepted
                else:
                    asked.told = True
                return
            self._open[task_id].remove(asked)
            answer = self._answer(kind, task_id, node, result)
            self.calls.setdefault(task_id, []).append(Call(kind, asked.began, self._cluster.time, answer))
            if answer == NEW:
                self._cluster.acknowledged[task_id] = term
            if answer in {NEW, DONE}:
                self._look_elsewhere(task_id, node)

        node.propose(command, done)

    def _look_elsewhere(self, task_id: str, node: SimNode) -> None:
        """Another client asks what this one has just been told, at another node that says that it leads."""
        others = [other for other in self._cluster.believers() if other is not node]
        if others:
            self._cluster.at(_A_MOMENT, lambda: self._ask(Kind.GET, task_id, self._rng.choice(others)))

    def _answer(self, kind: Kind, task_id: str, node: SimNode, outcomes: list[Outcome]) -> str:
        """As the services would say it."""
        if kind is Kind.GET:
            return str(seen(node.machine.state.tasks.get(task_id) or self._record.tasks.get(task_id)))
        outcome = outcomes[-1]
        if kind is Kind.SUBMIT and outcome.events:
            return NEW
        if kind is Kind.CANCEL and outcome.events:
            return DONE
        return str(seen(outcome.task))

    # ------------------------------------------------------------ the end

    def check_end(self) -> None:
        """Every task's history can have happened, and nobody was left without a word by a node that lives."""
        for task_id, questions in self._open.items():
            for asked in questions:
                age = self._cluster.time - asked.began
                if not asked.told and asked.node.life == asked.life and age > _SILENCE:
                    self._cluster.broken(f"{asked.node.name} never answered to {asked.kind} {task_id}")
        for task_id, calls in self.calls.items():
            unanswered = [Call(asked.kind, asked.began) for asked in self._open.get(task_id, ())]
            if not linearizable([*calls, *unanswered]):
                lines = "; ".join(map(str, sorted([*calls, *unanswered], key=lambda call: call.began)))
                self._cluster.broken(f"nobody can have been told this of {task_id}: {lines}")
