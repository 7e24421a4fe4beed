"""In-memory doubles: a replicator that agrees with itself, a clock, a record, a verifier that knows its proofs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from coordinator.raft import NotLeader, PeerStatus, RaftError, RaftStatus, TransferRefused
from coordinator.replication.replicator import ReplicatedState, Replicator
from coordinator.services.tasks import TaskListing
from coordinator.services.validation import Submission
from coordinator.state import codec
from coordinator.state.commands import Assign, Command, Complete, RegisterCircuit, RegisterWorker, Start, Submit
from coordinator.state.model import Outcome, Task, TaskState
from zkp.proofs import circuits

KEY = "ab" * 32
"""SHA-256 of the made-up verifying key of every circuit here."""
SERIAL = "5e41a1"
"""Of a worker's certificate."""
GOOD_PROOF = b"\x01" * 256
FALSE_PROOF = b"\x02" * 256


@dataclass
class Clock:
    """Seconds; moves when told to."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


class LocalLog:
    """A replicated log of one node that stores nothing: an entry is agreed on at once, or as `failures` say."""

    def __init__(self, node_id: str, replica: ReplicatedState) -> None:
        self.node_id = node_id
        self.replica = replica
        self.term = 0
        self.leading_term: int | None = None
        self.leader_id: str | None = None
        self.index = 0
        self.failures: list[RaftError] = []
        self.connected = {"coordinator-2": True}
        self.following: Callable[[], None] = lambda: None

    async def propose(self, command: bytes) -> object:
        if self.leading_term is None:
            raise NotLeader(self.leader_id)
        if self.failures:
            raise self.failures.pop(0)
        return self.agree(command)

    def agree(self, entry: bytes) -> list[Outcome]:
        self.index += 1
        return self.replica.apply(entry, self.index)

    async def transfer_leadership(self, to: str | None) -> str:
        target = to or next((peer for peer, up in self.connected.items() if up), "nobody")
        if not self.connected.get(target):
            raise TransferRefused(f"{target} is not connected")
        self.depose(target)
        return target

    def depose(self, leader_id: str | None) -> None:
        self.leading_term, self.leader_id = None, leader_id
        self.following()

    def status(self) -> RaftStatus:
        leading = self.leading_term is not None
        return RaftStatus(
            node_id=self.node_id,
            role="leader" if leading else "follower",
            leader_id=self.leader_id,
            term=self.term,
            commit_index=self.index,
            last_applied=self.index,
            log_entries=self.index,
            snapshot_index=0,
            membership="a double of a cluster",
            peers={peer: PeerStatus(up, self.index if leading else None) for peer, up in self.connected.items()},
        )


class LocalReplicator(Replicator):
    """The real replicator over a `LocalLog`, with handles for tests."""

    def __init__(self, node_id: str = "coordinator-1") -> None:
        self.replica = ReplicatedState()
        self.log = LocalLog(node_id, self.replica)
        self.now_ms = 1_700_000_000_000
        self.submitted: list[Command] = []
        self.barriers = 0
        self.on_barrier: Callable[[], object] = lambda: None
        super().__init__(node_id, self.replica, self.log, self._tick)
        self.log.following = self.following

    async def submit(self, command: Command) -> Outcome:
        self.submitted.append(command)
        return await super().submit(command)

    async def submit_all(self, commands: Sequence[Command]) -> list[Outcome]:
        self.submitted += commands
        return await super().submit_all(commands)

    async def barrier(self) -> None:
        """`on_barrier` is what had been agreed on without this node knowing it."""
        self.barriers += 1
        self.on_barrier()
        await super().barrier()

    def apply(self, command: Command) -> Outcome:
        """As if a command had been agreed on."""
        entry = codec.encode_group(self._tick(), self.log.term, [codec.encode_command(command)])
        return self.log.agree(entry)[0]

    def elect(self) -> None:
        self.log.term += 1
        self.log.leading_term, self.log.leader_id = self.log.term, self.node_id
        self.leading(self.log.term)

    def depose(self, leader_id: str | None) -> None:
        self.log.depose(leader_id)

    def _tick(self) -> int:
        self.now_ms += 1
        return self.now_ms


def leader() -> LocalReplicator:
    """A leader of term 1 with every circuit pinned to KEY."""
    replicator = LocalReplicator()
    replicator.elect()
    for circuit in circuits.NAMES:
        replicator.apply(RegisterCircuit(circuit, KEY))
    return replicator


def submission(task_id: str, a: int = 1, b: int = 2, max_retries: int | None = None) -> Submission:
    """A real submission of the addition circuit."""
    prepared = circuits.prepare("addition", {"a": a, "b": b})
    return Submission(task_id, "addition", prepared.inputs, prepared.public_inputs, max_retries)


def submit(replicator: LocalReplicator, task_id: str, circuit: str = "addition", max_retries: int = 3) -> Task:
    """A pending task, straight into the state."""
    outcome = replicator.apply(Submit(task_id, "client/alice", circuit, b"{}", ("3",), max_retries))
    assert outcome.task is not None
    return outcome.task


def register(
    replicator: LocalReplicator,
    worker_id: str,
    capacity: int = 1,
    circuits_: Sequence[str] = ("addition",),
    incarnation: str = "first",
) -> None:
    """An online worker, straight into the state."""
    command = RegisterWorker(worker_id, incarnation, capacity, frozenset(circuits_), (), "1.0")
    assert replicator.apply(command).refusal is None


def assign(replicator: LocalReplicator, task_id: str, worker_id: str) -> Task:
    """Lease a task to a worker, straight into the state."""
    outcome = replicator.apply(Assign(task_id, worker_id))
    assert outcome.refusal is None
    assert outcome.task is not None
    return outcome.task


def start(replicator: LocalReplicator, task: Task) -> None:
    assert replicator.apply(Start(task.id, task.worker_id, task.attempt)).refusal is None


def complete(replicator: LocalReplicator, task: Task, proof: bytes = GOOD_PROOF) -> None:
    assert replicator.apply(Complete(task.id, task.worker_id, task.attempt, proof)).refusal is None


@dataclass
class FakeRecord:
    """A record that holds what it is given, or is away."""

    tasks: dict[str, Task] = field(default_factory=dict)
    failure: Exception | None = None
    asked: list[tuple[TaskState | None, str | None, int, str]] = field(default_factory=list)

    async def task(self, task_id: str) -> Task | None:
        if self.failure is not None:
            raise self.failure
        return self.tasks.get(task_id)

    async def page(self, state: TaskState | None, circuit: str | None, size: int, token: str) -> TaskListing:
        self.asked.append((state, circuit, size, token))
        return TaskListing(tuple(self.tasks.values())[:size], "")


class KnowingVerifier:
    """Takes GOOD_PROOF for a proof of everything, and nothing else. Counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes, tuple[str, ...]]] = []

    def verify(self, circuit: str, proof: bytes, public_inputs: Sequence[str]) -> bool:
        self.asked.append((circuit, proof, tuple(public_inputs)))
        return proof == GOOD_PROOF
