"""One Raft node without sockets, threads or timers: messages and ticks in, messages and callbacks out.

This is the shell that makes the engine safe; DESIGN.md beside this file lists the engine's faults and where each is
answered. Whoever drives the node calls `receive` for every frame and `tick` after them and regularly; a StorageError
from either must end the process.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from coordinator.raft import engine, frames
from coordinator.raft.disk import Disk
from coordinator.raft.engine import CANDIDATE, FOLLOWER, LEADER, Core
from coordinator.raft.errors import FrameError, NotLeader, OutcomeUnknown, RaftError, TransferRefused
from coordinator.raft.journal import Entry, Journal
from coordinator.raft.membership import Membership, PeerView, Standing
from coordinator.raft.prevote import PreVote, would_vote
from coordinator.raft.snapshots import Offload, Snapshots, StateMachine
from protocol.v1 import raft_pb2 as pb

log = logging.getLogger("zkp.raft")

ROLE_NAMES = {FOLLOWER: "follower", CANDIDATE: "candidate", LEADER: "leader"}
MAX_COMMAND_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class RaftOptions:
    """heartbeat, election_timeout: seconds; an election starts after one to two election timeouts of silence."""

    node_id: str
    peer_ids: tuple[str, ...]
    bootstrap: bool
    heartbeat: float = 0.05
    election_timeout: float = 0.25
    snapshot_entries: int = 20_000
    snapshot_bytes: int = 64 << 20
    segment_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class PeerStatus:
    connected: bool
    match_index: int | None
    """Highest entry known to be the peer's too; None unless this node leads."""


@dataclass(frozen=True, slots=True)
class RaftStatus:
    """What this node believes; only the leader's belief about the cluster is worth much."""

    node_id: str
    role: str
    """"leader", "follower", "candidate", or "waiting" while in no cluster."""
    leader_id: str | None
    term: int
    commit_index: int
    last_applied: int
    log_entries: int
    snapshot_index: int
    membership: str
    peers: dict[str, PeerStatus]


class Outbox(Protocol):
    """Where frames for peers go; the links, or the simulation's network."""

    def send(self, peer_id: str, envelope: pb.Envelope) -> None: ...
    def backlog(self, peer_id: str) -> int: ...


class Listener(Protocol):
    """Who is told about leadership."""

    def leading(self, term: int) -> None:
        """This node leads, and its state machine holds everything that was accepted before."""

    def following(self) -> None:
        """This node no longer leads."""


Done = Callable[[object], None]
"""Called once with a command's result, or with the RaftError that tells why there is none."""


class RaftNode:
    """The node; `make_id` gives 32 random hexadecimal digits and is asked once in a cluster's life."""

    def __init__(
        self,
        options: RaftOptions,
        *,
        disk: Disk,
        outbox: Outbox,
        machine: StateMachine,
        listener: Listener,
        offload: Offload,
        make_id: Callable[[], str],
    ) -> None:
        self._options = options
        self._disk = disk
        self._outbox = outbox
        self._machine = machine
        self._listener = listener
        self._offload = offload
        self._links: set[str] = set()
        """Peers that have said hello on a live connection."""
        self._sequence: dict[str, int] = {}
        self._waiting: dict[int, Done] = {}
        self._proposals = 0
        self._leading_term: int | None = None
        self._leader_heard = float("-inf")
        self._votes: set[tuple[int, str]] = set()
        self._vouched: dict[str, int] = {}
        """Peers that are catching up → the entry whose commitment ends that."""
        self._prevote = PreVote(options.node_id, len(options.peer_ids) + 1)
        self._transfer: tuple[str | None, float] | None = None
        """Who is to lead (None once it was asked to) and until when to wait, while leadership is handed over."""
        self._core: Core | None = None
        self._membership = Membership(
            disk, options.node_id, list(options.peer_ids), bootstrap=options.bootstrap, make_id=make_id
        )
        log.info("%s", self._membership.describe())
        self._open_core()

    def _open_core(self) -> None:
        """The engine runs from when the node belongs to a cluster."""
        cluster_id = self._membership.cluster_id
        if not cluster_id or self._core is not None:
            return
        self._journal = Journal(self._disk, cluster_id, self._options.node_id, self._options.segment_bytes)
        self._snapshots = Snapshots(self._disk, cluster_id, self._journal, self._machine, self._offload)
        self._core = Core(
            self._options.node_id,
            list(self._options.peer_ids),
            heartbeat=self._options.heartbeat,
            election_timeout=self._options.election_timeout,
            journal=self._journal,
            wire=_CoreWire(self, self._snapshots, self._machine),
            on_role=self._role_changed,
        )
        for peer in sorted(self._links):
            self._core.connected(peer)

    # ------------------------------------------------------------ driven from outside

    def link_up(self, peer: str) -> None:
        """A connection to the authenticated peer is open: introduce this node."""
        self._sequence[peer] = 0
        self._say_hello(peer)

    def link_down(self, peer: str, *, replaced: bool = False) -> None:
        """The live connection to the peer is gone. `replaced`: another one has taken its place, `link_up` follows."""
        if peer not in self._links:
            return
        self._links.discard(peer)
        core = self._core
        if core is None:
            return
        core.disconnected(peer)
        self._vouched.pop(peer, None)
        if not replaced and core.role() != LEADER and core.leader_id() == peer:
            # A process that dies closes its connections: no need to wait for the silence to grow long.
            self._leader_heard = float("-inf")
            spread = (core.random_election_timeout() - self._options.election_timeout) / 4
            core.campaign_at(min(core.election_deadline(), engine.now() + spread))

    def receive(self, peer: str, envelope: pb.Envelope) -> None:
        """Take one frame from the authenticated peer. Raises FrameError when the connection must be closed."""
        kind = envelope.WhichOneof("message")
        if kind == "hello":
            self._on_hello(peer, envelope)
            return
        core = self._core
        if core is None or peer not in self._links:
            return
        if envelope.cluster_id != self._membership.cluster_id:
            raise FrameError(f"frame of cluster {envelope.cluster_id or 'none'}")
        if envelope.term > core.raftCurrentTerm and kind != "pre_vote_request":
            core.step_down(peer, envelope.term)
        self._HANDLERS[kind](self, core, peer, envelope)

    def tick(self) -> None:
        """Let time pass: elections, commitment, heartbeats, snapshots. Raises StorageError."""
        core = self._core
        if core is None:
            return
        self._campaign_if_due(core)
        core.doTick(0)
        if not self._options.peer_ids and core.raftCommitIndex < core.last_log_index():
            core.doTick(0)  # The engine commits before it takes commands: alone, nothing would come to wake it.
        self._journal.sync()
        self._announce(core)
        self._pursue_transfer(core)
        self._snapshots.take_when_due(
            core.raftLastApplied, self._options.snapshot_entries, self._options.snapshot_bytes
        )

    def propose(self, command: bytes, done: Done) -> None:
        """Replicate a command; takes effect at the next tick. Raises NotLeader, and ValueError for a wrong size."""
        if not 0 < len(command) <= MAX_COMMAND_BYTES:
            raise ValueError(f"a command of {len(command)} bytes; 1 to {MAX_COMMAND_BYTES} are allowed")
        core = self._core
        if core is None or self._leading_term is None or self._transfer is not None:
            raise NotLeader(None if self._transfer else self.leader_id)
        self._proposals += 1
        number = self._proposals
        self._waiting[number] = done
        core.propose(command, lambda result, reason: self._settle(number, result, reason))

    def transfer_leadership(self, to: str | None) -> str:
        """Begin to hand leadership to `to`, or to the peer that is most caught up; who it will be.

        No command is accepted meanwhile. Raises NotLeader or TransferRefused.
        """
        core = self._core
        if core is None or self._leading_term is None:
            raise NotLeader(self.leader_id)
        candidates = sorted(self._links, key=lambda peer: (core.match_index(peer), peer))
        if to is None and not candidates:
            raise TransferRefused("no other node is connected")
        target = to or candidates[-1]
        if target == self._options.node_id:
            raise TransferRefused(f"{target} leads already")
        if target not in self._links:
            raise TransferRefused(f"{target} is not a connected node of this cluster")
        self._transfer = (target, engine.now() + 4 * self._options.election_timeout)
        return target

    def close(self) -> None:
        """Stop in order: waiting callers learn that their outcome is unknown."""
        self._fail_waiting()
        if self._core is not None:
            self._journal.sync()
            self._journal.close()

    # ------------------------------------------------------------ what it looks like

    @property
    def leading_term(self) -> int | None:
        """The term in which this node leads and is current, or None."""
        return self._leading_term

    @property
    def is_engine_leader(self) -> bool:
        """True from the election on, also before the state is current."""
        return self._core is not None and self._core.role() == LEADER

    @property
    def transferring(self) -> bool:
        """True while leadership is being handed over and no command is accepted."""
        return self._transfer is not None

    @property
    def leader_id(self) -> str | None:
        """Who leads, as far as this node knows; nobody once the leader has been silent for longer than any election
        waits: without a majority no other comes, and the engine would name the dead one for ever."""
        core = self._core
        if core is None:
            return None
        silence = engine.now() - self._leader_heard
        if core.role() != LEADER and silence > 2 * self._options.election_timeout:
            return None
        return core.leader_id()

    @property
    def term(self) -> int:
        return int(self._core.raftCurrentTerm) if self._core else 0

    def status(self) -> RaftStatus:
        core = self._core
        leading = core is not None and core.role() == LEADER
        peers = {
            peer: PeerStatus(peer in self._links, core.match_index(peer) if core and leading else None)
            for peer in self._options.peer_ids
        }
        return RaftStatus(
            node_id=self._options.node_id,
            role=ROLE_NAMES[core.role()] if core else "waiting",
            leader_id=self.leader_id,
            term=self.term,
            commit_index=core.raftCommitIndex if core else 0,
            last_applied=core.raftLastApplied if core else 0,
            log_entries=len(self._journal) if core else 0,
            snapshot_index=self._snapshots.index if core else 0,
            membership=self._membership.describe(),
            peers=peers,
        )

    # ------------------------------------------------------------ hello

    def _say_hello(self, peer: str) -> None:
        last = self._core.last_log_index() if self._core else 0
        hello = pb.Hello(
            node_id=self._options.node_id,
            peer_id=peer,
            version=frames.PROTOCOL_VERSION,
            last_log_index=last,
        )
        self.send(peer, pb.Envelope(hello=hello))

    def _on_hello(self, peer: str, envelope: pb.Envelope) -> None:
        hello = envelope.hello
        if hello.version != frames.PROTOCOL_VERSION:
            raise FrameError(f"speaks version {hello.version}, this node version {frames.PROTOCOL_VERSION}")
        if (hello.node_id, hello.peer_id) != (peer, self._options.node_id):
            raise FrameError(f"says it is {hello.node_id!r} looking for {hello.peer_id!r}")
        ours = self._membership.cluster_id
        if ours and envelope.cluster_id and envelope.cluster_id != ours:
            raise FrameError(f"belongs to cluster {envelope.cluster_id}, this node to {ours}")
        if self._membership.heard(peer, PeerView(envelope.cluster_id, hello.last_log_index)):
            self._open_core()
            for other in self._sequence:
                self._say_hello(other)
        if peer not in self._links:
            self._links.add(peer)
            log.info("connected", extra={"peer": peer})
            if self._core is not None:
                self._core.connected(peer)

    def send(self, peer: str, envelope: pb.Envelope) -> None:
        """Stamp and send an envelope."""
        self._sequence[peer] = self._sequence.get(peer, 0) + 1
        if envelope.HasField("next_index"):
            envelope.next_index.learner = self._membership.standing is Standing.CATCHING_UP
        elif envelope.HasField("append_entries"):
            envelope.append_entries.vouched_index = self._vouched.get(peer, 0)
        envelope.cluster_id = self._membership.cluster_id
        envelope.term = self.term
        envelope.sequence = self._sequence[peer]
        self._outbox.send(peer, envelope)

    # ------------------------------------------------------------ messages

    def _on_request_vote(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        if self._membership.standing is Standing.VOTER:
            core.feed(peer, frames.to_engine(envelope))

    def _on_vote(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        # The engine counts messages, not voters.
        if (envelope.vote.term, peer) not in self._votes:
            self._votes = {vote for vote in self._votes if vote[0] == envelope.vote.term}
            self._votes.add((envelope.vote.term, peer))
            core.feed(peer, frames.to_engine(envelope))

    def _on_append_entries(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        message = frames.to_engine(envelope)
        if message["term"] < core.raftCurrentTerm:
            self._show_term(core, peer)
            return
        self._hear_leader()
        core.feed_entries(peer, message)
        vouched = envelope.append_entries.vouched_index
        if self._membership.standing is Standing.CATCHING_UP and 0 < vouched <= core.raftCommitIndex:
            self._membership.caught_up()

    def _on_install_snapshot(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        message = frames.to_engine(envelope)
        if message["term"] < core.raftCurrentTerm:
            self._show_term(core, peer)
            return
        self._hear_leader()
        # A part of a snapshot proves nothing about this node's log, yet the engine would commit by it.
        message["commit_index"] = core.raftCommitIndex
        core.feed(peer, message)
        if not envelope.install_snapshot.last:
            # On a slow line the heartbeats wait behind the parts: the leader must not miss this node meanwhile.
            self._give_sign(core, peer)

    def _hear_leader(self) -> None:
        self._leader_heard = engine.now()
        self._prevote.forget()

    def _show_term(self, core: Core, peer: str) -> None:
        """Tell a leader of an older term that it is over; the engine would stay silent, cut off for ever."""
        self._give_sign(core, peer)

    def _give_sign(self, core: Core, peer: str) -> None:
        """An answer that acknowledges nothing, and shows this node's term like any other."""
        position = pb.NextIndex(next_index=core.last_log_index() + 1, reset=False, success=False)
        self.send(peer, pb.Envelope(next_index=position))

    def _on_next_index(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        # Acknowledgements carry no term in the engine: one of an older term could commit what was never stored.
        if envelope.term != core.raftCurrentTerm:
            return
        if envelope.next_index.learner:
            self._on_learner(core, peer, envelope)
        else:
            self._vouched.pop(peer, None)
            core.feed_acknowledgement(peer, frames.to_engine(envelope))

    def _on_learner(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        """A peer without its disk may have voted, and acknowledged entries, that it forgot.

        It counts again once an entry is committed, without it, that was made after it came back: a leader that
        commits so is no relic of an older term, and the peer then holds all that was committed before.
        """
        core.feed_learner(peer, frames.to_engine(envelope))
        if core.role() == LEADER and peer not in self._vouched:
            self._vouched[peer] = core.last_log_index() + 1
            core.add_no_op()

    def _on_timeout_now(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        if self._membership.standing is Standing.VOTER:
            core.feed(peer, frames.to_engine(envelope))

    def _on_pre_vote_request(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        request = envelope.pre_vote_request
        silence = engine.now() - self._leader_heard
        granted = self._membership.standing is Standing.VOTER and would_vote(
            own_term=core.raftCurrentTerm,
            own_last=(core.last_log_term(), core.last_log_index()),
            term=request.term,
            last=(request.last_log_term, request.last_log_index),
            hears_leader=core.role() == LEADER or silence < self._options.election_timeout,
        )
        self.send(peer, pb.Envelope(pre_vote_answer=pb.PreVoteAnswer(term=request.term, granted=granted)))

    def _on_pre_vote_answer(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        answer = envelope.pre_vote_answer
        self._prevote.answered(peer, answer.term, granted=answer.granted)
        if core.role() != LEADER and self._prevote.won(core.raftCurrentTerm + 1):
            core.campaign_at(0)

    _HANDLERS: ClassVar[dict[str | None, Callable[["RaftNode", Core, str, pb.Envelope], None]]] = {
        "request_vote": _on_request_vote,
        "vote": _on_vote,
        "append_entries": _on_append_entries,
        "install_snapshot": _on_install_snapshot,
        "next_index": _on_next_index,
        "timeout_now": _on_timeout_now,
        "pre_vote_request": _on_pre_vote_request,
        "pre_vote_answer": _on_pre_vote_answer,
    }

    # ------------------------------------------------------------ elections and leadership

    def _campaign_if_due(self, core: Core) -> None:
        """Let the engine's election begin only after a won pre-vote, or when the leader asked for it."""
        time = engine.now()
        core.permit_campaign(False)
        if core.role() == LEADER or core.election_deadline() >= time:
            return
        term = core.raftCurrentTerm + 1
        if self._membership.standing is not Standing.VOTER:
            core.campaign_at(time + core.random_election_timeout())
        elif core.transfer_pending() or self._prevote.won(term):
            core.permit_campaign(True)
        else:
            self._prevote.ask(term)
            if self._prevote.won(term):
                core.permit_campaign(True)
                return
            core.campaign_at(time + core.random_election_timeout())
            request = pb.PreVoteRequest(
                term=term, last_log_index=core.last_log_index(), last_log_term=core.last_log_term()
            )
            for peer in sorted(self._links):
                self.send(peer, pb.Envelope(pre_vote_request=request))

    def _role_changed(self, before: int, after: int) -> None:
        log.info("entering %s state", ROLE_NAMES[after], extra={"term": self.term})
        self._vouched.clear()
        if before == LEADER:
            self._transfer = None
            self._fail_waiting()
            if self._leading_term is not None:
                self._leading_term = None
                _tell(self._listener.following)

    def _announce(self, core: Core) -> None:
        """Leadership counts once the first entry of the term is applied: then the state is current."""
        if core.role() != LEADER or self._leading_term == core.raftCurrentTerm:
            return
        if core.raftLastApplied >= core.no_op_index() > 0:
            self._leading_term = core.raftCurrentTerm
            _tell(self._listener.leading, core.raftCurrentTerm)

    def _pursue_transfer(self, core: Core) -> None:
        if self._transfer is None or core.role() != LEADER:
            return
        target, deadline = self._transfer
        if engine.now() > deadline:
            log.warning("leadership transfer gave no result in time: this node goes on leading")
            self._transfer = None
        elif target is not None and core.raftCommitIndex == core.last_log_index() and core.hand_over(target):
            self._transfer = (None, deadline)

    def _settle(self, number: int, result: object, reason: int) -> None:
        done = self._waiting.pop(number, None)
        if done is not None:
            _tell(done, result if reason == engine.SUCCESS else NotLeader(self.leader_id))

    def _fail_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            _tell(done, OutcomeUnknown("leadership was lost while the command was on its way"))


def _tell(listener: Callable[..., None], *news: object) -> None:
    """A listener's own trouble stops here: the engine would take an entry for not applied, and apply it again."""
    try:
        listener(*news)
    except Exception as error:
        log.error("a listener failed", exc_info=error)


class _CoreWire:
    """What the engine reaches through: syncs the journal before any message that speaks of it leaves."""

    def __init__(self, node: RaftNode, snapshots: Snapshots, machine: StateMachine) -> None:
        self._node = node
        self._snapshots = snapshots
        self._machine = machine

    def send(self, peer_id: str, message: dict[str, Any]) -> None:
        if message["type"] == "apply_command":
            return  # Leadership was lost between proposing and the tick: its caller has been told already.
        if message["type"] != "append_entries":
            # A leader's own entries may still be on their way to its disk when it sends them: it commits
            # nothing before they are there. Everything else is a promise about what this node has stored.
            self._node._journal.sync()
        self._node.send(peer_id, frames.from_engine(message))

    def backlog(self, peer_id: str) -> int:
        return self._node._outbox.backlog(peer_id)

    def apply(self, command: bytes, index: int) -> object:
        try:
            return self._machine.apply(command, index)
        except Exception as error:
            log.critical("entry %d could not be applied and is skipped", index, exc_info=error)
            return RaftError("the command could not be applied")

    def snapshot_chunk(self, peer_id: str) -> tuple[bytes, bool, bool] | None:
        return self._snapshots.next_chunk(peer_id)

    def snapshot_index(self, peer_id: str) -> int:
        return self._snapshots.sent_index(peer_id)

    def cancel_snapshot(self, peer_id: str) -> None:
        self._snapshots.cancel(peer_id)

    def receive_chunk(self, data: bytes, first: bool, last: bool) -> bool:
        core = self._node._core
        applied = core.raftLastApplied if core else 0
        return self._snapshots.receive(data, first=first, last=last, last_applied=applied)

    def restore(self) -> tuple[Entry, Entry] | None:
        return self._snapshots.restore()
