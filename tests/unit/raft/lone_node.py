"""One real node; the test plays its peers, its network and its clock."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from coordinator.raft import RaftOptions
from coordinator.raft.engine import Core
from coordinator.raft.membership import MemberState
from coordinator.raft.node import RaftNode
from coordinator.raft.snapshots import Swap, Work
from coordinator.raft.storage.checksummed_json import dump, load
from coordinator.raft.storage.journal import Entry, Journal
from tests.simulation.disk import SimDisk
from tests.unit.raft.storage import CLUSTER, contents
from zkp.protocol.v1 import raft_pb2 as pb

HEARTBEAT, ELECTION_TIMEOUT = 0.05, 0.25
SEGMENT = 4_096
NO_OP = b"\x01"
"""What a new leader's first entry, and every log's first, says."""
BASE: Entry = (NO_OP, 1, 0)
"""What every log begins with."""


@dataclass
class Clock:
    """Seconds, as the engine sees them."""

    time: float = 1_000.0

    def __call__(self) -> float:
        return self.time


def command(text: str) -> bytes:
    """A log entry of the engine that carries a command of ours."""
    return b"\x00" + text.encode()


Files = dict[str, bytes]
"""What would be read from the disk after a loss of power."""


def entries_in(files: Files) -> list[Entry]:
    disk = SimDisk(random.Random(0))
    for name, data in files.items():
        disk.replace(name, data)
    return contents(Journal(disk, CLUSTER, "n1", SEGMENT))


def vote_in(files: Files) -> dict[str, Any]:
    return load(files["vote"]) if "vote" in files else {"term": 0, "voted_for": None}


@dataclass
class Sent:
    """A frame that left the node, and what the disk would have shown at that moment, had the power failed."""

    peer: str
    envelope: pb.Envelope
    files: Files

    @property
    def kind(self) -> str:
        return self.envelope.WhichOneof("message") or ""

    def durable_entries(self) -> list[Entry]:
        return entries_in(self.files)

    def durable_vote(self) -> dict[str, Any]:
        return vote_in(self.files)


@dataclass
class Machine:
    """A state machine that remembers what it was given; it fails on demand."""

    applied: list[tuple[int, bytes]] = field(default_factory=list)
    poison: bytes = b"poison"
    on_apply: Callable[[], None] = lambda: None

    def apply(self, entry: bytes, index: int) -> object:
        self.on_apply()
        if entry == self.poison:
            raise RuntimeError("this command cannot be carried out")
        self.applied.append((index, entry))
        return f"result of {entry.decode()}"

    def capture(self) -> Iterator[bytes]:
        return iter([repr(self.applied).encode()])

    def load(self, state: bytes | memoryview, give_way: Callable[[], None]) -> Swap:
        if state == b"does not decode":
            raise ValueError("the state does not decode")
        loaded = bytes(state)

        def swap() -> Iterator[None]:
            self.applied = [(0, loaded)]
            return iter(())

        return swap


class LoneNode:
    """The node "n1" and everything around it, played by the test.

    term, voted_for, entries: what its disk holds when it starts; by default the disk of a member that has just
    joined. `snapshot_entries`, `snapshot_bytes`: when a snapshot is due.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        peers: Sequence[str] = ("n2", "n3"),
        standing: MemberState | None = MemberState.VOTER,
        bootstrap: bool = False,
        term: int = 0,
        voted_for: str | None = None,
        entries: Sequence[Entry] = (),
        disk: SimDisk | None = None,
        snapshot_entries: int = 1_000_000,
        snapshot_bytes: int = 1 << 30,
    ) -> None:
        self.clock = clock
        self.sent: list[Sent] = []
        self.backlogs: dict[str, int] = {}
        self.heard: list[int | None] = []
        """What the listener was told: a term, or None for following."""
        self.results: list[object] = []
        self.offloaded: list[tuple[Work, Callable[[Any], None]]] = []
        self.machine = Machine()
        self.disk = disk or _new_disk(standing, term, voted_for, entries)
        self._options = RaftOptions(
            "n1",
            tuple(peers),
            bootstrap,
            HEARTBEAT,
            ELECTION_TIMEOUT,
            snapshot_entries=snapshot_entries,
            snapshot_bytes=snapshot_bytes,
            segment_bytes=SEGMENT,
        )
        self.start()

    def start(self) -> None:
        """As a process does, also a second time after a crash."""
        self.machine = Machine()
        self.raft = RaftNode(
            self._options,
            disk=self.disk,
            outbox=self,
            machine=self.machine,
            listener=self,
            offload=lambda work, done: self.offloaded.append((work, done)),
            make_id=lambda: CLUSTER,
        )

    def work_off(self) -> None:
        """The other thread does what it was given; then a tick follows, as in a running node."""
        while self.offloaded:
            work, done = self.offloaded.pop(0)
            done(work(lambda: None))
            self.raft.tick()

    # ------------------------------------------------------------ Outbox, Listener

    def send(self, peer_id: str, envelope: pb.Envelope) -> None:
        self.sent.append(Sent(peer_id, pb.Envelope.FromString(envelope.SerializeToString()), self.files()))

    def backlog(self, peer_id: str) -> int:
        return self.backlogs.get(peer_id, 0)

    def leading(self, term: int) -> None:
        self.heard.append(term)

    def following(self) -> None:
        self.heard.append(None)

    # ------------------------------------------------------------ what the test does to it

    @property
    def core(self) -> Core:
        assert self.raft._core is not None
        return self.raft._core

    @property
    def term(self) -> int:
        return self.raft.term

    def log(self) -> list[Entry]:
        return contents(self.raft._journal)

    def files(self) -> Files:
        return {name: self.disk.durable(name) or b"" for name in self.disk.names()}

    def durable_entries(self) -> list[Entry]:
        """What a loss of power would leave of the log now."""
        return entries_in(self.files())

    def durable_vote(self) -> dict[str, Any]:
        return vote_in(self.files())

    def connect(self, *peers: str, cluster_id: str = CLUSTER, last_log_index: int = 1) -> None:
        """Connections are up and the peers have introduced themselves."""
        for peer in peers:
            self.raft.link_up(peer)
            self.hello(peer, cluster_id=cluster_id, last_log_index=last_log_index)

    def hello(self, peer: str, *, cluster_id: str = CLUSTER, last_log_index: int = 1, **changes: Any) -> None:
        values: dict[str, Any] = {"node_id": peer, "peer_id": "n1", "version": 1, "last_log_index": last_log_index}
        values |= changes
        self.raft.receive(peer, pb.Envelope(cluster_id=cluster_id, hello=pb.Hello(**values)))

    def give(self, peer: str, *, envelope_term: int | None = None, **message: Any) -> None:
        """One frame from the peer, which is in this node's term unless told otherwise; then the tick that follows."""
        self.receive(peer, envelope_term=envelope_term, **message)
        self.raft.tick()

    def receive(self, peer: str, *, envelope_term: int | None = None, **message: Any) -> None:
        """The same without the tick."""
        term = self.term if envelope_term is None else envelope_term
        self.raft.receive(peer, pb.Envelope(cluster_id=CLUSTER, term=term, **message))

    def append(
        self,
        leader: str,
        *entries: Entry,
        term: int,
        after: tuple[int, int],
        commit: int = 0,
        vouched: int = 0,
    ) -> None:
        """Entries from a leader of `term`; `after`: index and term of the entry before them."""
        message = pb.AppendEntries(
            term=term,
            commit_index=commit,
            prev_index=after[0],
            prev_term=after[1],
            entries=[pb.Entry(command=data, index=index, term=of) for data, index, of in entries],
            vouched_index=vouched,
        )
        self.give(leader, envelope_term=term, append_entries=message)

    def acknowledge(self, peer: str, index: int | None = None, *, term: int | None = None) -> None:
        """The peer has stored everything up to `index`, or all there is."""
        following = (self.core.last_log_index() if index is None else index) + 1
        answer = pb.NextIndex(next_index=following, reset=False, success=True)
        self.give(peer, envelope_term=term, next_index=answer)

    def elapse(self, seconds: float) -> None:
        """Let time pass as a running node would: with a tick every hundredth of a second."""
        for _ in range(round(seconds * 100)):
            self.clock.time += 0.01
            self.raft.tick()

    def wait_for(self, kind: str, limit: float = 2.0) -> list[Sent]:
        """Let time pass until the node has sent such a frame; all of them."""
        for _ in range(round(limit * 100)):
            if any(sent.kind == kind for sent in self.sent):
                return self.taken(kind)
            self.elapse(0.01)
        raise AssertionError(f"no {kind} was sent within {limit} s")

    def taken(self, kind: str) -> list[Sent]:
        """Every frame of the kind that was sent so far; they are forgotten."""
        taken = [sent for sent in self.sent if sent.kind == kind]
        self.sent = [sent for sent in self.sent if sent.kind != kind]
        return taken

    def campaign(self, *supporters: str) -> None:
        """Time passes, the supporters would vote for it, so it does campaign."""
        self.wait_for("pre_vote_request")
        for peer in supporters:
            self.give(peer, pre_vote_answer=pb.PreVoteAnswer(term=self.term + 1, granted=True))
        assert self.taken("request_vote")

    def elect(self, *supporters: str) -> None:
        """Make it the leader, and its state current."""
        self.campaign(*supporters)
        for peer in supporters:
            self.give(peer, vote=pb.Vote(term=self.term))
        for peer in supporters:
            self.acknowledge(peer)
        assert self.raft.leading_term == self.term
        self.sent.clear()

    def propose(self, text: str) -> None:
        """Hand in a command; its result, or the error, will be in `results`."""
        self.raft.propose(text.encode(), self.results.append)
        self.raft.tick()

    def lose_power(self) -> None:
        """The process is gone and the disk forgets what was not synced; then it starts again."""
        self.disk.lose_power()
        self.sent.clear()
        self.start()


def _new_disk(standing: MemberState | None, term: int, voted_for: str | None, entries: Sequence[Entry]) -> SimDisk:
    disk = SimDisk(random.Random(0))
    if standing is not None:
        disk.replace("membership", dump({"cluster_id": CLUSTER, "node_id": "n1", "standing": standing}))
    if term:
        disk.replace("vote", dump({"term": term, "voted_for": voted_for}))
    if entries:
        journal = Journal(disk, CLUSTER, "n1", SEGMENT)
        for added in entries:
            journal.add(*added)
        journal.sync()
        journal.close()
    return disk


def leader(clock: Clock, *, peers: tuple[str, ...] = ("n2", "n3"), snapshot_entries: int = 1_000_000) -> LoneNode:
    """It leads term 4, whose no-op is entry 2; everybody has both entries."""
    node = LoneNode(clock, peers=peers, term=3, entries=(BASE,), snapshot_entries=snapshot_entries)
    node.connect(*peers)
    node.elect(*peers)
    assert (node.term, node.core.last_log_index()) == (4, 2)
    return node


def indexes_for(node: LoneNode, peer: str) -> list[list[int]]:
    """Indexes of the entries in each message to the peer since the last look."""
    sent = [sent for sent in node.taken("append_entries") if sent.peer == peer]
    return [[entry.index for entry in one.envelope.append_entries.entries] for one in sent]
