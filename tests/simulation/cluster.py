"""A simulated cluster in one thread and virtual time; every invariant is checked as time passes."""

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable

from coordinator.raft import RaftError, engine
from coordinator.state.commands import RegisterCircuit, Submit
from coordinator.state.invariants import InvariantError
from coordinator.state.model import Outcome
from tests.simulation.disk import SimDisk
from tests.simulation.durability_oracle import on_majority
from tests.simulation.ledger import Ledger
from tests.simulation.network import Network
from tests.simulation.node import ELECTION_TIMEOUT, HEARTBEAT, SimNode
from tests.simulation.violation import Violation

__all__ = ["ELECTION_TIMEOUT", "HEARTBEAT", "LOAD", "Cluster", "SimNode", "Violation"]

LOAD = RegisterCircuit("addition", "ab" * 32)
"""The circuit of the tasks that clients submit without end, and that no worker proves."""
_TRACE = 400
_LIMIT = 20.0
"""Virtual seconds, after the faults, within which everything must be well."""


class Follower:
    """Whoever wants to know who leads: nothing, unless it says more."""

    def leads(self, node: SimNode, term: int) -> None:
        """The node believes that it leads and is current."""

    def leads_no_more(self, node: SimNode) -> None:
        """It does not, or it is dead. May come without the other."""

    def settled(self) -> bool:
        """Whether, after the faults, this part has come to its end."""
        return True

    def check_end(self) -> None:
        """What must hold then; raises Violation."""


class Cluster:
    """`size` nodes; `run(seconds)` lets time pass and raises the first Violation."""

    def __init__(self, seed: int, size: int = 3) -> None:
        self.rng = random.Random(seed)
        random.seed(seed)  # the engine's own
        self.time = self.began = 1_000.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._violation: Violation | None = None
        self.trace: deque[str] = deque(maxlen=_TRACE)
        self.faults: Counter[str] = Counter()
        self.spent = 0.0
        """Seconds that the step which is being taken has cost its node so far."""
        engine.use_clock(lambda: self.time + self.spent)
        self.ledger = Ledger(
            self.broken, lambda index, term: on_majority((node.log for node in self.nodes.values()), index, term)
        )
        self.followers: list[Follower] = []
        self.names = [f"n{number}" for number in range(1, size + 1)]
        self.network = Network(self, self.rng, lambda: self.time)
        self.nodes: dict[str, SimNode] = {
            name: SimNode(self, name, SimDisk(self.rng), bootstrap=name == "n1") for name in self.names
        }
        self._watches: list[tuple[Callable[[], bool], Callable[[], None], float]] = []
        self.submitted = 0
        for name, node in self.nodes.items():
            node.start()
            self.network.join(name, node)
        self._keep_submitting()

    # ------------------------------------------------------------ the world of its nodes

    def at(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.time + max(delay, 0.0), next(self._order), action))

    def when(self, condition: Callable[[], bool], action: Callable[[], None], within: float) -> None:
        """Do it in the moment in which the condition has come true, if that is within so many seconds."""
        self._watches.append((condition, action, self.time + within))

    def _look(self) -> None:
        """Whether a moment has come that somebody waits for."""
        watches, self._watches = self._watches, []
        for watch in watches:
            condition, action, until = watch
            if condition():
                action()
            elif self.time < until:
                self._watches.append(watch)

    def chance(self, low: float, high: float) -> float:
        return self.rng.uniform(low, high)

    def make_id(self) -> str:
        return f"{self.rng.getrandbits(128):032x}"

    def note(self, text: str) -> None:
        """Remember what happened, for whoever reads the trace of a broken promise."""
        self.trace.append(f"{self.time - self.began:9.4f}  {text}")

    def broken(self, what: str) -> None:
        """A promise was broken. Said to `run`, since whoever calls may be code that swallows exceptions."""
        if self._violation is None:
            self.note(f"BROKEN: {what}")
            self._violation = Violation(what)

    def leads(self, node: SimNode, term: int) -> None:
        for follower in self.followers:
            follower.leads(node, term)

    def leads_no_more(self, node: SimNode) -> None:
        for follower in self.followers:
            follower.leads_no_more(node)

    # ------------------------------------------------------------ time

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        while self._events and self._events[0][0] <= end:
            self.time, _, action = heapq.heappop(self._events)
            action()
            for name, node in self.nodes.items():
                if node.raft is not None and node.raft.is_engine_leader:
                    self.ledger.led(name, node.raft.term)
                    if not node.paused:
                        node.liveness.leads()
            if self._watches:
                self._look()
            if self._violation is not None:
                raise self._violation
        self.time = end

    def run_until(self, condition: Callable[[], bool], limit: float) -> None:
        """Raises Violation when `condition` does not come true within `limit` virtual seconds."""
        end = self.time + limit
        while not condition():
            if self.time >= end:
                raise Violation(f"no progress within {limit} s: {self.describe()}")
            self.run(0.02)

    # ------------------------------------------------------------ who leads, who submits

    @property
    def acknowledged(self) -> dict[str, int]:
        return self.ledger.acknowledged

    def leader(self) -> SimNode | None:
        """The node that leads in the highest term, if any."""
        return max(self.believers(), key=lambda node: node.leading_term or 0, default=None)

    def believers(self) -> list[SimNode]:
        """Every node that believes that it leads, also those that were deposed and do not know it yet."""
        return [node for node in self.nodes.values() if node.leading_term is not None]

    def _keep_submitting(self) -> None:
        """Clients never stop asking."""
        self.submit()
        self.at(self.rng.expovariate(1 / 0.015), self._keep_submitting)

    def submit(self, node: SimNode | None = None) -> None:
        """One client asks a node, or whoever leads, to accept a task."""
        node = node or self.leader()
        if node is None or node.paused:
            return
        self.submitted += 1
        task_id = f"t{self.submitted}"
        term = node.leading_term or 0

        def done(result: list[Outcome] | RaftError) -> None:
            if isinstance(result, list):
                self.acknowledged[task_id] = term

        node.propose([LOAD, Submit(task_id, "client", LOAD.name, b"{}", ("3",), 3)], done)

    # ------------------------------------------------------------ the end

    def check_end(self) -> None:
        """After the faults: everybody is up, one leads, all agree, nothing that was acknowledged is missing."""
        self.run(1.0)  # what was set off last happens
        self._watches.clear()
        self.network.heal()
        self.network.release_all()
        for node in self.nodes.values():
            node.disk.full, node.disk.slow, node.disk.die_in, node.disk.die_at = False, 0.0, 0, None
            node.apply_seconds = node.disk.slow_snapshots = 0.0
            node.resume()
            node.start()
        self.run_until(lambda: self.leader() is not None, _LIMIT)
        before = len(self.acknowledged)
        self.run_until(lambda: len(self.acknowledged) > before, _LIMIT)
        self.run_until(lambda: all(follower.settled() for follower in self.followers), _LIMIT)
        self.run_until(self._all_equal, _LIMIT)
        for node in self.nodes.values():
            lost = self.ledger.lost(node.machine.state.tasks.__contains__, 1 << 62)
            if lost:
                raise Violation(f"{node.name} lacks {len(lost)} acknowledged tasks in the end: {lost[:3]}")
            try:
                node.machine.state.check()
            except InvariantError as error:
                raise Violation(f"{node.name}: {error}") from error
        for follower in self.followers:
            follower.check_end()
        if self._violation is not None:
            raise self._violation

    def _all_equal(self) -> bool:
        """Everybody has applied all that the current leader has in its log, and it is the same."""
        leader = self.leader()
        if leader is None or leader.raft is None or leader.raft._core is None:
            return False
        last = leader.raft._core.last_log_index()
        applied = {node.raft.status().last_applied if node.raft else -1 for node in self.nodes.values()}
        states = [node.machine.state for node in self.nodes.values()]
        return applied == {last} and all(
            (state.tasks, state.workers, state.outbox) == (states[0].tasks, states[0].workers, states[0].outbox)
            for state in states
        )

    def describe(self) -> str:
        parts = []
        for node in self.nodes.values():
            state = node.raft.status() if node.raft else None
            parts.append(f"{node.name}: {state or 'down'}")
        return "; ".join(parts)
