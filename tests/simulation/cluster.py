"""A simulated cluster and what must hold of it at every step."""

import functools
import heapq
import itertools
import random
from collections.abc import Callable

from coordinator.codec import encode_command, encode_group
from coordinator.commands import RegisterCircuit, Submit
from coordinator.model import Outcome
from coordinator.raft import NotLeader, RaftError, RaftOptions, StorageError, engine
from coordinator.raft.node import RaftNode
from coordinator.raft.sealed import unseal
from coordinator.replication import ReplicatedState
from protocol.v1 import raft_pb2 as pb
from tests.simulation.disk import ProcessDied, SimDisk
from tests.simulation.network import Network

HEARTBEAT, ELECTION_TIMEOUT = 0.05, 0.25


class Violation(AssertionError):
    """Something happened that must never happen."""


@functools.lru_cache(256)
def _durable_vote(data: bytes | None) -> dict[str, object]:
    return unseal(data) if data is not None else {"term": 0, "voted_for": None}


class _Recorder(ReplicatedState):
    """The real replica; tells the cluster what it applies."""

    def __init__(self, node: "SimNode") -> None:
        super().__init__()
        self._node = node

    def apply(self, entry: bytes, index: int) -> list[Outcome]:
        self._node.cluster.check_applied(self._node.name, index, entry)
        return super().apply(entry, index)


class SimNode:
    """One process: dies and starts again, keeps its disk."""

    def __init__(self, cluster: "Cluster", name: str, *, bootstrap: bool) -> None:
        self.cluster = cluster
        self.name = name
        self.alive = False
        self.paused = False
        self.disk = SimDisk(cluster.rng)
        self._bootstrap = bootstrap
        self.machine = _Recorder(self)
        self.raft: RaftNode | None = None
        self._generation = 0
        self._inbox: list[Callable[[], None]] = []

    def start(self) -> None:
        if self.alive:
            return
        self._generation += 1
        self.machine = _Recorder(self)
        peers = tuple(name for name in self.cluster.names if name != self.name)
        generation = self._generation
        self.alive, self.paused = True, False

        def build() -> None:
            self.raft = RaftNode(
                RaftOptions(
                    self.name,
                    peers,
                    self._bootstrap,
                    HEARTBEAT,
                    ELECTION_TIMEOUT,
                    snapshot_entries=40,
                    segment_bytes=16 << 10,
                ),
                disk=self.disk,
                outbox=self,
                machine=self.machine,
                listener=self,
                offload=lambda work, done: self._offload(generation, work, done),
                make_id=lambda: f"{self.cluster.rng.getrandbits(128):032x}",
            )

        self.guarded(build)
        if self.alive:
            self._tick_for_ever(generation)

    def kill(self, *, power_loss: bool) -> None:
        """The process ends here and now; with power_loss the disk forgets what was not synced."""
        if self.alive:
            self.alive = False
            self.raft = None
            self._inbox.clear()
            self.cluster.network.drop_node(self.name)
        if power_loss:
            self.disk.lose_power()
        self.disk.die_in = 0

    def guarded(self, step: Callable[[], None]) -> None:
        """Run a step of the process; it may die of its disk."""
        if self.paused:
            self._inbox.append(step)
            return
        try:
            step()
        except ProcessDied:
            self.kill(power_loss=False)
        except StorageError as error:
            if not self.disk.full:
                raise Violation(f"{self.name} refuses its own files: {error}") from error
            self.kill(power_loss=False)

    def resume(self) -> None:
        self.paused = False
        waiting, self._inbox = self._inbox, []
        for step in waiting:
            if self.alive:
                self.guarded(step)

    def _tick_for_ever(self, generation: int) -> None:
        if not self.alive or generation != self._generation:
            return
        if not self.paused:
            self.guarded(self._tick)
        self.cluster.at(HEARTBEAT / 5, lambda: self._tick_for_ever(generation))

    def _tick(self) -> None:
        if self.raft is not None:
            self.raft.tick()

    def _offload(self, generation: int, work: Callable[[], bytes], done: Callable[[bytes], None]) -> None:
        def finish() -> None:
            if self.alive and generation == self._generation:
                self.guarded(lambda: done(work()))

        self.cluster.at(self.cluster.rng.uniform(0.0, 0.05), finish)

    # ------------------------------------------------------------ Endpoint, Outbox, Listener

    def link_up(self, peer: str) -> None:
        self.guarded(lambda: self.raft and self.raft.link_up(peer))

    def link_down(self, peer: str) -> None:
        self.guarded(lambda: self.raft and self.raft.link_down(peer))

    def frame(self, peer: str, envelope: pb.Envelope) -> None:
        def take() -> None:
            if self.raft is not None:
                self.raft.receive(peer, envelope)
                self.raft.tick()

        self.guarded(take)

    def send(self, peer_id: str, envelope: pb.Envelope) -> None:
        self.cluster.check_promise(self, peer_id, envelope)
        self.cluster.network.send(self.name, peer_id, envelope)

    def backlog(self, peer_id: str) -> int:
        return 0

    def leading(self, term: int) -> None:
        self.cluster.check_leader(self, term)

    def following(self) -> None:
        pass


class Cluster:
    """`size` nodes in virtual time. `run(seconds)` lets time pass; every invariant is checked as it does."""

    def __init__(self, seed: int, size: int = 3) -> None:
        self.rng = random.Random(seed)
        random.seed(seed)
        self.time = 1_000.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        engine.use_clock(lambda: self.time)
        self.names = [f"n{number}" for number in range(1, size + 1)]
        self.network = Network(self, self.rng, lambda: self.time)
        self.nodes = {name: SimNode(self, name, bootstrap=name == "n1") for name in self.names}
        self.applied: dict[int, bytes] = {}
        self.leaders: dict[int, str] = {}
        self.acknowledged: dict[str, int] = {}
        """Task id → term of the leader that accepted it."""
        self.submitted = 0
        for name, node in self.nodes.items():
            node.start()
            self.network.join(name, node)
        self._keep_submitting()

    def _keep_submitting(self) -> None:
        """Clients never stop asking."""
        self.submit()
        self.at(self.rng.expovariate(1 / 0.015), self._keep_submitting)

    def at(self, delay: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.time + max(delay, 0.0), next(self._order), action))

    def run(self, seconds: float) -> None:
        end = self.time + seconds
        while self._events and self._events[0][0] <= end:
            self.time, _, action = heapq.heappop(self._events)
            action()
            self.check_roles()
        self.time = end

    def run_until(self, condition: Callable[[], bool], limit: float) -> None:
        """Raises Violation when `condition` does not come true within `limit` virtual seconds."""
        end = self.time + limit
        while not condition():
            if self.time >= end:
                raise Violation(f"no progress within {limit} s: {self.describe()}")
            self.run(0.02)

    def leader(self) -> SimNode | None:
        """The node that leads in the highest term, if any."""
        leading = [node for node in self.nodes.values() if node.raft and node.raft.leading_term is not None]
        return max(leading, key=lambda node: node.raft.leading_term or 0, default=None) if leading else None

    def submit(self, node: SimNode | None = None) -> None:
        """One client asks a node, or whoever leads, to accept a task."""
        node = node or self.leader()
        if node is None or node.raft is None or node.paused:
            return
        self.submitted += 1
        task_id = f"t{self.submitted}"
        raft = node.raft
        commands = [
            RegisterCircuit("addition", "ab" * 32),
            Submit(task_id, "client", "addition", b"{}", ("3",), 3),
        ]
        entry = encode_group(int(self.time * 1000), raft.term, [encode_command(command) for command in commands])

        def done(result: object) -> None:
            if not isinstance(result, RaftError):
                self.acknowledged[task_id] = raft.term

        def propose() -> None:
            try:
                raft.propose(entry, done)
            except NotLeader:
                return
            raft.tick()

        node.guarded(propose)

    # ------------------------------------------------------------ invariants

    def check_applied(self, name: str, index: int, entry: bytes) -> None:
        known = self.applied.setdefault(index, entry)
        if known != entry:
            raise Violation(f"{name} applied another entry {index} than the others did")

    def check_roles(self) -> None:
        for name, node in self.nodes.items():
            if node.alive and node.raft and node.raft.is_engine_leader:
                known = self.leaders.setdefault(node.raft.term, name)
                if known != name:
                    raise Violation(f"{known} and {name} both lead in term {node.raft.term}")

    def check_promise(self, node: SimNode, peer: str, envelope: pb.Envelope) -> None:
        """What a message promises about the sender's disk is on the disk already."""
        vote = _durable_vote(node.disk.durable("vote"))
        if envelope.term > vote["term"] and envelope.WhichOneof("message") != "hello":
            raise Violation(f"{node.name} speaks in term {envelope.term}, its disk says {vote['term']}")
        if envelope.HasField("vote") and vote["voted_for"] != peer:
            raise Violation(f"{node.name} votes for {peer}, its disk says {vote['voted_for']}")
        if (
            envelope.HasField("next_index")
            and envelope.next_index.success
            and (node.disk.behind or (node.raft is not None and node.raft._journal._pending))
        ):
            raise Violation(f"{node.name} acknowledges what its disk does not have")

    def check_leader(self, node: SimNode, term: int) -> None:
        """A leader that says it is current has every task that was acknowledged in earlier terms.

        One that was paused may say so late, when a later term has begun: it cannot know of that term's tasks.
        """
        tasks = node.machine.state.tasks
        lost = [task for task, accepted in self.acknowledged.items() if accepted < term and task not in tasks]
        if lost:
            raise Violation(f"{node.name} leads in term {term} without {len(lost)} acknowledged tasks")

    def check_end(self) -> None:
        """After the faults: everybody is up, one leads, all agree, nothing that was acknowledged is missing."""
        self.run(1.0)  # what was set off last happens
        self.network.heal()
        for node in self.nodes.values():
            node.disk.full, node.disk.die_in = False, 0
            node.resume()
            node.start()
        self.run_until(lambda: self.leader() is not None, 15.0)
        before = len(self.acknowledged)

        def accepts() -> bool:
            self.submit()
            return len(self.acknowledged) > before

        self.run_until(accepts, 15.0)
        self.run_until(self._all_equal, 15.0)
        for node in self.nodes.values():
            self.check_leader(node, 1 << 62)

    def _all_equal(self) -> bool:
        """Everybody has applied all that the current leader has in its log, and it is the same."""
        leader = self.leader()
        if leader is None or leader.raft is None or leader.raft._core is None:
            return False
        last = leader.raft._core.last_log_index()
        applied = {node.raft.status().last_applied if node.raft else -1 for node in self.nodes.values()}
        states = [node.machine.state for node in self.nodes.values()]
        return applied == {last} and all(state.tasks == states[0].tasks for state in states)

    def describe(self) -> str:
        parts = []
        for node in self.nodes.values():
            state = node.raft.status() if node.raft else None
            parts.append(f"{node.name}: {state or 'down'}")
        return "; ".join(parts)
