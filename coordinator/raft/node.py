"""One Raft node without sockets, threads or timers: messages and ticks in, messages and callbacks out.

This is the shell that makes the engine safe; DESIGN.md beside this file lists the engine's faults and where each is
answered. The caller calls `receive` for every frame, and `tick` after them and regularly; a StorageError from either
must end the process.
"""

import logging
import math
from collections.abc import Callable, Mapping
from typing import Protocol

from coordinator.raft import engine
from coordinator.raft.elections import Elections
from coordinator.raft.engine import CANDIDATE, FOLLOWER, LEADER, Core
from coordinator.raft.errors import FrameError, NotLeader, TransferRefused
from coordinator.raft.membership import Membership, MemberState, PeerView
from coordinator.raft.proposals import Done, PendingProposals, notify
from coordinator.raft.snapshots import Offload, Snapshots, StateMachine
from coordinator.raft.status import PeerStatus, RaftOptions, RaftStatus
from coordinator.raft.storage.disk import Disk
from coordinator.raft.storage.journal import Journal
from coordinator.raft.transport import framing
from coordinator.raft.wire import EngineHost
from zkp.protocol.v1 import raft_pb2 as pb

log = logging.getLogger("zkp.raft")

ROLE_NAMES = {FOLLOWER: "follower", CANDIDATE: "candidate", LEADER: "leader"}
MAX_COMMAND_BYTES = 256 << 10


class FrameOutbox(Protocol):
    """Where frames for peers go; the links, or the simulation's network."""

    def send(self, peer_id: str, envelope: pb.Envelope) -> None:
        """Queue a frame for a peer."""
        ...

    def backlog(self, peer_id: str) -> int:
        """Return the number of bytes that are queued for a peer."""
        ...


class Listener(Protocol):
    """Receiver of leadership changes."""

    def leading(self, term: int) -> None:
        """This node leads, and its state machine holds everything that was accepted before."""

    def following(self) -> None:
        """This node no longer leads."""


class RaftNode:
    """The node; `make_id` gives 32 random hexadecimal digits and is asked once in a cluster's life."""

    def __init__(
        self,
        options: RaftOptions,
        *,
        disk: Disk,
        outbox: FrameOutbox,
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
        self._connected: set[str] = set()
        """Peers with a live connection, whether they have said hello on it or not."""
        self._waiting = PendingProposals()
        self._leading_term: int | None = None
        self._catch_up_index: dict[str, int] = {}
        """Peers that are catching up → the entry whose commitment ends that."""
        self._transfer: tuple[str | None, float] | None = None
        """Who is to lead (None once it was asked to) and until when to wait, while leadership is handed over."""
        self._core: Core | None = None
        self._ran_at = engine.now()
        """When the node last took a frame or a tick, which comes several times in each heartbeat interval."""
        self._membership = Membership(
            disk, options.node_id, list(options.peer_ids), bootstrap=options.bootstrap, make_id=make_id
        )
        self._elections = Elections(
            options.node_id, len(options.peer_ids) + 1, options.election_timeout, self._membership, self.send
        )
        self._handlers: Mapping[str | None, Callable[[Core, str, pb.Envelope], None]] = {
            "request_vote": self._elections.on_request_vote,
            "vote": self._elections.on_vote,
            "append_entries": self._on_append_entries,
            "install_snapshot": self._on_install_snapshot,
            "next_index": self._on_next_index,
            "timeout_now": self._elections.on_timeout_now,
            "pre_vote_request": self._elections.on_pre_vote_request,
            "pre_vote_answer": self._elections.on_pre_vote_answer,
        }
        log.info("%s", self._membership.describe())
        self._open_core()

    def _open_core(self) -> None:
        """The engine runs from when the node belongs to a cluster."""
        cluster_id = self._membership.cluster_id
        if not cluster_id or self._core is not None:
            return
        self._journal = Journal(self._disk, cluster_id, self._options.node_id, self._options.segment_bytes)
        self._snapshots = Snapshots(
            self._disk,
            cluster_id,
            self._journal,
            self._machine,
            self._offload,
            trailing_entries=self._options.trailing_entries,
            on_received=self._install_snapshot,
        )
        self._core = Core(
            self._options.node_id,
            list(self._options.peer_ids),
            heartbeat=self._options.heartbeat,
            election_timeout=self._options.election_timeout,
            journal=self._journal,
            wire=EngineHost(self._journal, self._snapshots, self._machine, self.send, self._outbox.backlog),
            on_role=self._role_changed,
        )
        for peer in sorted(self._links):
            self._core.connected(peer)

    # ------------------------------------------------------------ driven from outside

    def link_up(self, peer: str) -> None:
        """A connection to the authenticated peer is open: introduce this node."""
        self._connected.add(peer)
        self._say_hello(peer)

    def link_down(self, peer: str, *, replaced: bool = False) -> None:
        """The live connection to the peer is gone. `replaced`: another one has taken its place, `link_up` follows."""
        self._connected.discard(peer)
        if peer not in self._links:
            return
        self._links.discard(peer)
        core = self._core
        if core is None:
            return
        core.disconnected(peer)
        self._catch_up_index.pop(peer, None)
        if not replaced and core.role() != LEADER and core.leader_id() == peer:
            self._elections.on_leader_lost(core)

    def receive(self, peer: str, envelope: pb.Envelope) -> None:
        """Take one frame from the authenticated peer. Raises FrameError when the connection must be closed."""
        kind = envelope.WhichOneof("message")
        if kind == "hello":
            self._on_hello(peer, envelope)
            return
        core = self._core
        if core is None or peer not in self._links:
            return
        self._look_at_clock(core)
        if envelope.cluster_id != self._membership.cluster_id:
            raise FrameError(f"frame of cluster {envelope.cluster_id or 'none'}")
        if envelope.term > core.raftCurrentTerm and kind != "pre_vote_request":
            core.step_down(peer, envelope.term)
        self._handlers[kind](core, peer, envelope)

    def tick(self) -> None:
        """Let time pass: elections, commitment, heartbeats, snapshots. Raises StorageError."""
        core = self._core
        if core is None:
            return
        self._look_at_clock(core)
        self._elections.campaign_if_due(core, self._links)
        core.doTick(0)
        if not self._options.peer_ids and core.raftCommitIndex < core.last_log_index():
            core.doTick(0)  # The engine commits before it takes commands: alone, nothing would come to wake it.
        self._journal.sync()
        self._announce(core)
        self._pursue_transfer(core)
        self._snapshots.take_when_due(
            core.raftLastApplied,
            self._options.snapshot_entries,
            self._options.snapshot_bytes,
            behind=core.apply_pause() is not None,
        )

    def _look_at_clock(self, core: Core) -> None:
        """Exclude a pause of the process from all contact times.

        A busy machine may not run this process for longer than an election timeout. The frames that arrived meanwhile
        are not read yet: a tick that comes first must not take them for missing.
        """
        time = engine.now()
        late = time - self._ran_at - self._options.heartbeat
        self._ran_at = time
        if late > 0:
            self._elections.postpone(core, late)

    def propose(self, command: bytes, done: Done) -> None:
        """Replicate a command; takes effect at the next tick. Raises NotLeader, and ValueError for a wrong size."""
        if not 0 < len(command) <= MAX_COMMAND_BYTES:
            raise ValueError(f"a command of {len(command)} bytes; 1 to {MAX_COMMAND_BYTES} are allowed")
        core = self._core
        if core is None or self._leading_term is None or self._transfer is not None:
            raise NotLeader(None if self._transfer else self.leader_id)
        number = self._waiting.add(done)
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
            raise TransferRefused("no other node is connected to the leader; start another node")
        target = to or candidates[-1]
        if target == self._options.node_id:
            raise TransferRefused(f"{target} is already the leader")
        if target not in self._links:
            raise TransferRefused(f"{target} is not connected to the leader; start it, or choose another node")
        self._transfer = (target, engine.now() + 4 * self._options.election_timeout)
        return target

    def close(self) -> None:
        """Stop in order: waiting callers learn that their outcome is unknown."""
        self._waiting.fail()
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

    def apply_pause(self) -> float | None:
        """Seconds until a tick applies more of the committed entries; None when all of them are applied."""
        return self._core.apply_pause() if self._core is not None else None

    @property
    def transferring(self) -> bool:
        """True while leadership is being handed over and no command is accepted."""
        return self._transfer is not None

    @property
    def leader_id(self) -> str | None:
        """Return the leader that this node knows of.

        None once it has been out of contact for longer than an election timeout: without a majority no other is
        elected, and the engine would continue to name it.
        """
        core = self._core
        if core is None:
            return None
        if core.role() != LEADER and self._elections.silence() > 2 * self._options.election_timeout:
            return None
        return core.leader_id()

    @property
    def term(self) -> int:
        """Return the present term."""
        return int(self._core.raftCurrentTerm) if self._core else 0

    def status(self) -> RaftStatus:
        """Return the status of this node."""
        core = self._core
        leading = core is not None and core.role() == LEADER
        peers = {
            peer: PeerStatus(
                peer in self._links,
                core.match_index(peer) if core and leading else None,
                _since(core.last_response(peer)) if core and leading else None,
            )
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
            leader_silence=0.0 if leading else _finite(self._elections.silence()),
        )

    # ------------------------------------------------------------ hello

    def _say_hello(self, peer: str) -> None:
        last = self._core.last_log_index() if self._core else 0
        hello = pb.Hello(
            node_id=self._options.node_id,
            peer_id=peer,
            version=framing.PROTOCOL_VERSION,
            last_log_index=last,
        )
        self.send(peer, pb.Envelope(hello=hello))

    def _on_hello(self, peer: str, envelope: pb.Envelope) -> None:
        hello = envelope.hello
        if hello.version != framing.PROTOCOL_VERSION:
            raise FrameError(f"speaks version {hello.version}, this node version {framing.PROTOCOL_VERSION}")
        if (hello.node_id, hello.peer_id) != (peer, self._options.node_id):
            raise FrameError(f"says it is {hello.node_id!r} looking for {hello.peer_id!r}")
        ours = self._membership.cluster_id
        if ours and envelope.cluster_id and envelope.cluster_id != ours:
            raise FrameError(f"belongs to cluster {envelope.cluster_id}, this node to {ours}")
        if self._membership.on_hello(peer, PeerView(envelope.cluster_id, hello.last_log_index)):
            self._open_core()
            for other in sorted(self._connected):
                self._say_hello(other)
        if peer not in self._links:
            self._links.add(peer)
            log.info("connected", extra={"peer": peer})
            if self._core is not None:
                self._core.connected(peer)

    def send(self, peer: str, envelope: pb.Envelope) -> None:
        """Stamp and send an envelope."""
        if envelope.HasField("next_index"):
            envelope.next_index.learner = self._membership.standing is MemberState.CATCHING_UP
        elif envelope.HasField("append_entries"):
            envelope.append_entries.vouched_index = self._catch_up_index.get(peer, 0)
        envelope.cluster_id = self._membership.cluster_id
        envelope.term = self.term
        self._outbox.send(peer, envelope)

    # ------------------------------------------------------------ messages

    def _on_append_entries(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        message = framing.to_engine(envelope)
        if message["term"] < core.raftCurrentTerm:
            self._show_term(core, peer)
            return
        self._elections.on_leader_contact()
        if self._snapshots.installing:
            # They may follow the snapshot, and must not be acknowledged before it is in effect. They are sent again.
            core.step_heartbeat(peer, message["term"])
            self._give_sign(core, peer)
            return
        core.step_append_entries(peer, message)
        vouched = envelope.append_entries.vouched_index
        if self._membership.standing is MemberState.CATCHING_UP and 0 < vouched <= core.raftCommitIndex:
            self._membership.caught_up()

    def _on_install_snapshot(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        message = framing.to_engine(envelope)
        if message["term"] < core.raftCurrentTerm:
            self._show_term(core, peer)
            return
        self._elections.on_leader_contact()
        # A part of a snapshot proves nothing about this node's log, yet the engine would commit by it.
        message["commit_index"] = core.raftCommitIndex
        core.step(peer, message)
        # On a slow line the heartbeats wait behind the parts: the leader must not miss this node meanwhile.
        self._give_sign(core, peer)

    def _install_snapshot(self, index: int) -> None:
        if self._core is not None:
            self._core.install_snapshot(index)

    def _show_term(self, core: Core, peer: str) -> None:
        """Send a leader of an older term the current one; without an answer it would stay excluded."""
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
            self._catch_up_index.pop(peer, None)
            core.step_next_index(peer, framing.to_engine(envelope))

    def _on_learner(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        """A peer without its disk may have voted, and acknowledged entries, that it forgot.

        It counts again once an entry is committed, without it, that was made after it came back: a leader that
        commits so is no relic of an older term, and the peer then holds all that was committed before.
        """
        core.step_learner(peer, framing.to_engine(envelope))
        if core.role() == LEADER and peer not in self._catch_up_index:
            self._catch_up_index[peer] = core.last_log_index() + 1
            core.add_no_op()

    # ------------------------------------------------------------ leadership

    def _role_changed(self, before: int, after: int) -> None:
        if after != FOLLOWER:  # the leader is logged by `leader_seen` at the first contact
            log.info("entering %s state", ROLE_NAMES[after], extra={"term": self.term, "peer": self._options.node_id})
        elif before == LEADER:
            log.info("leadership lost", extra={"term": self.term})
        self._catch_up_index.clear()
        if before == LEADER:
            self._transfer = None
            self._waiting.fail()
            if self._leading_term is not None:
                self._leading_term = None
                notify(self._listener.following)

    def _announce(self, core: Core) -> None:
        """Leadership counts once the first entry of the term is applied: then the state is current."""
        if core.role() != LEADER or self._leading_term == core.raftCurrentTerm:
            return
        if core.raftLastApplied >= core.no_op_index() > 0:
            self._leading_term = core.raftCurrentTerm
            notify(self._listener.leading, core.raftCurrentTerm)

    def _pursue_transfer(self, core: Core) -> None:
        if self._transfer is None or core.role() != LEADER:
            return
        target, deadline = self._transfer
        if engine.now() > deadline:
            log.warning("leadership transfer timed out; this node remains leader")
            self._transfer = None
        elif target is not None and core.raftCommitIndex == core.last_log_index() and core.hand_over(target):
            self._transfer = (None, deadline)

    def _settle(self, number: int, result: object, reason: int) -> None:
        self._waiting.settle(number, result if reason == engine.SUCCESS else NotLeader(self.leader_id))


def _since(moment: float) -> float | None:
    """Seconds since a moment of the engine's clock; None for one that never was."""
    return engine.now() - moment if moment else None


def _finite(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) else None
