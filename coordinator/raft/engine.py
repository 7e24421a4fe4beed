"""pysyncobj's Raft core, and the one place that imports it.

What is taken from the engine: terms, votes, log matching, commitment. What is replaced, by overriding the engine's
own seams (pinned version, asserted below): its journal, its transport, its snapshots, its sender of entries, its
poller and its pickling. DESIGN.md beside this file says why for each.
"""

import socket
import zlib
from _socket import inet_ntop
from collections.abc import Callable
from typing import Any

import pysyncobj.syncobj as engine
from pysyncobj import SyncObjConf
from pysyncobj.config import FAIL_REASON
from pysyncobj.node import Node
from pysyncobj.transport import Transport
from pysyncobj.version import VERSION

from coordinator.raft.sending import Sender
from coordinator.raft.storage.journal import Entry, Journal
from coordinator.raft.wire import EngineHost

PINNED_VERSION = "0.3.17"
if VERSION != PINNED_VERSION:
    raise ImportError(f"pysyncobj {PINNED_VERSION} is required, {VERSION} is installed")

# pysyncobj puts a function that only works on Windows in this place, on every system: psutil and others that turn an
# IPv6 address into text would fail in this process.
socket.inet_ntop = inet_ntop

_REGULAR, _NO_OP = b"\x00", b"\x01"
SUCCESS = FAIL_REASON.SUCCESS
FOLLOWER, CANDIDATE, LEADER = 0, 1, 2
_NEVER = float("inf")
_SLICES_PER_HEARTBEAT = 5
"""Entries are applied for this part of a heartbeat interval, and until the entry that has begun is finished."""
_LEADER_REST, _FOLLOWER_REST = 0.25, 1.0
"""Seconds without applying after each second of it: a frame takes several turns of the loop to come in or to leave,
and a loop that applies in each turn delays it by as many slices. Callers wait for the leader alone, and members on
one machine share its processors."""


class _NoPoller:
    """The engine polls at the end of every tick; here the event loop does that."""

    def poll(self, timeout: float) -> None:
        pass


class _NoPickle:
    """Nothing is ever unpickled: commands are opaque bytes, messages are protobuf."""

    @staticmethod
    def loads(_data: bytes) -> object:
        raise AssertionError("unpickling is disabled")

    load = dump = dumps = loads


def _adopt_journal(journal: object) -> Journal:
    if not isinstance(journal, Journal):
        raise TypeError("the engine runs on our journal only")
    return journal


engine.pickle = _NoPickle
engine.createPoller = lambda _kind: _NoPoller()
engine.createJournal = _adopt_journal
engine.PIPE_NOTIFIER_ENABLED = False


def use_clock(clock: Callable[[], float]) -> None:
    """Drive every core in this process by `clock` (seconds, monotonic): the simulation's virtual time."""
    engine.monotonicTime = clock


def now() -> float:
    """The engine's clock, in seconds. It is not time.monotonic(): never mix the two."""
    return float(engine.monotonicTime())


class _Peer(Node):  # type: ignore[misc]  # the engine is untyped
    """A node whose place in the engine's sets does not change from run to run: simulations replay exactly."""

    def __init__(self, node_id: str) -> None:
        super().__init__(node_id)
        self._hash = zlib.crc32(node_id.encode())  # asked for some forty times an entry

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Peer) and other.id == self.id

    def __hash__(self) -> int:
        return self._hash


class _WireTransport(Transport):  # type: ignore[misc]  # the engine is untyped
    """The engine's view of the wire."""

    def __init__(self, wire: EngineHost) -> None:
        super().__init__(None, None, None)
        self._wire = wire

    def send(self, node: Node, message: dict[str, Any]) -> bool:
        self._wire.send(node.id, message)
        return True

    @property
    def ready(self) -> bool:
        return True

    def destroy(self) -> None:
        """The shell closes the links."""


class _SnapshotExchange:
    """Stands in for the engine's serializer, which would fork and never sync."""

    def __init__(self, wire: EngineHost, applied: Callable[[], int]) -> None:
        self._wire = wire
        self._applied = applied

    def checkSerializing(self) -> tuple[int, None]:  # noqa: N802 - the engine's name
        return 0, None

    def setTransmissionData(self, chunk: tuple[bytes, bool, bool]) -> bool:  # noqa: N802
        """Never complete for the engine, which would load it at once: `Core.install_snapshot` follows later."""
        self._wire.receive_chunk(*chunk, self._applied())
        return False


class Core(engine.SyncObj):  # type: ignore[misc]  # the engine is untyped
    """One node's Raft core, ticked by hand. Names with `_SyncObj__` are the engine's private seams.

    No properties here: the engine's constructor reads every attribute of the object before it is built.
    """

    def __init__(
        self,
        node_id: str,
        peer_ids: list[str],
        *,
        heartbeat: float,
        election_timeout: float,
        journal: Journal,
        wire: EngineHost,
        on_role: Callable[[int, int], None],
    ) -> None:
        self._wire = wire
        self._journal = journal
        self._sender = Sender(journal, wire)
        self._conflict = False
        self._may_campaign = True
        self._commit_is_decided = False
        self._apply_again_at = 0.0
        self._heartbeat_due = 0.0
        self._rewound: dict[str, tuple[int, int]] = {}
        """Peer → term of this node, and lowest next index from its rejections since the last success."""
        self._nodes = {peer: _Peer(peer) for peer in peer_ids}
        conf = SyncObjConf(
            autoTick=False,
            raftMinTimeout=election_timeout,
            raftMaxTimeout=2 * election_timeout,
            appendEntriesPeriod=heartbeat,
            leaderFallbackTimeout=election_timeout,
            connectionTimeout=2 * election_timeout,
            appendEntriesUseBatch=False,
            commandsWaitLeader=False,
            logCompactionMinEntries=_NEVER,
            logCompactionMinTime=_NEVER,
            dynamicMembershipChange=False,
            onStateChanged=on_role,
        )
        conf.journalFile = journal
        super().__init__(_Peer(node_id), list(self._nodes.values()), conf, transport=_WireTransport(wire))
        if self._SyncObj__raftLog is not journal:
            raise TypeError("the engine did not take our journal")
        self._SyncObj__serializer = _SnapshotExchange(wire, lambda: int(self.raftLastApplied))
        self._SyncObj__needLoadDumpFile = False
        self._SyncObj__loadDumpFile(clearJournal=False)

    # ------------------------------------------------------------ the engine's seams, overridden

    def _SyncObj__loadDumpFile(self, clearJournal: bool) -> None:  # noqa: ARG002, N802, N803
        """Start from the latest snapshot. Unlike the engine's, never clears entries that follow it."""
        entries = self._wire.restore()
        if entries is None:
            self._journal.require_start()
            return
        before, last = entries
        self._journal.restart_from(before, last)
        self._SyncObj__raftLastApplied = last[1]
        self._SyncObj__raftCommitIndex = max(self.raftCommitIndex, last[1])

    def _SyncObj__connectedToAnyone(self) -> bool:  # noqa: N802
        """Asked when an election is due by the engine's look at the clock, which is later than the shell's."""
        return self._may_campaign and bool(super()._SyncObj__connectedToAnyone())

    def _onTick(self, timeToWait: float = 0.0) -> None:  # noqa: N802, N803
        """One turn of the engine, with the commit index decided before it."""
        if self.role() == LEADER:
            self._advance_commit_index()
            self._commit_is_decided = True
        super()._onTick(timeToWait)

    def _advance_commit_index(self) -> None:
        """Commit the highest entry that a majority stores, if it is of this term: older terms are never counted.

        The engine asks this of each entry behind its commit index, which takes seconds after a restart with a long
        log, and again in every tick until an entry of its own term is on a majority.
        """
        last = self.last_log_index()
        stored = sorted([last, *(min(self.match_index(peer), last) for peer in self._nodes)], reverse=True)
        agreed = stored[len(stored) // 2]
        if agreed > self.raftCommitIndex and self._journal[agreed - self._journal[0][1]][2] == self.raftCurrentTerm:
            self._SyncObj__raftCommitIndex = agreed
            self._journal.setRaftCommitIndex(agreed)

    def _SyncObj__getCurrentLogIndex(self) -> int:  # noqa: N802
        """The last entry; the commit index while the engine looks for more to commit, which ends its search."""
        return int(self.raftCommitIndex) if self._commit_is_decided else self.last_log_index()

    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        """Apply committed entries for a part of a heartbeat interval; True if there was any to apply.

        The engine would apply all of them: a leader that has a long log to apply after its election would send no
        heartbeat meanwhile, and a follower would answer none.
        """
        self._commit_is_decided = False
        committed, began = self.raftCommitIndex, now()
        if committed == self.raftLastApplied or began < self._apply_again_at:
            return False
        spent = 0.0
        try:
            while self.raftLastApplied < committed and spent < self.conf.appendEntriesPeriod / _SLICES_PER_HEARTBEAT:
                self._SyncObj__raftCommitIndex = self.raftLastApplied + 1
                super()._SyncObj__applyLogEntries()
                spent = now() - began
        finally:
            self._SyncObj__raftCommitIndex = committed
        rest = _LEADER_REST if self.role() == LEADER else _FOLLOWER_REST
        self._apply_again_at = now() + spent * rest if self.raftLastApplied < committed else 0.0
        return True

    def _SyncObj__doApplyCommand(self, command: bytes) -> object:  # noqa: N802
        """Apply one entry; membership and version entries do not exist here."""
        if command[:1] != _REGULAR:
            return None
        return self._wire.apply(command[1:], self._SyncObj__raftLastApplied + 1)

    def _SyncObj__sendAppendEntries(self) -> None:  # noqa: N802
        """Send what is new to every connected peer; an empty message only when a heartbeat is due."""
        time_now = now()
        heartbeat_due = time_now >= self._heartbeat_due
        if heartbeat_due:
            self._heartbeat_due = time_now + self.conf.appendEntriesPeriod
            self._SyncObj__newAppendEntriesTime = self._heartbeat_due
        stamp = {"term": self.raftCurrentTerm, "commit_index": self.raftCommitIndex}
        for peer, node in self._nodes.items():
            if self.isNodeConnected(node):
                following = self._next_index()[node]
                self._next_index()[node] = self._sender.send(peer, following, stamp, heartbeat_due=heartbeat_due)
            else:
                self._wire.cancel_snapshot(peer)

    def _SyncObj__deleteEntriesFrom(self, index: int) -> None:  # noqa: N802
        """Truncate only on a conflict; the engine truncates whenever its log continues behind a message.

        `step_append_entries` has cut off what is known already, so the first remaining entry, if any, is a conflict.
        """
        if not self._conflict:
            return
        self._journal.deleteEntriesFrom(index - self._journal[0][1])

    def _SyncObj__sendNextNodeIdx(  # noqa: N802
        self,
        node: Node,
        reset: bool = False,
        nextNodeIdx: int | None = None,  # noqa: N803
        success: bool = False,
    ) -> None:
        """Reply to AppendEntries.

        A snapshot proves the log up to its own end. The engine would vouch for what lies behind it too, which may
        be from a leader that never was: the new leader would count it as its own entries, and lose them.
        """
        following = self.raftLastApplied + 1 if success and nextNodeIdx is None else nextNodeIdx
        if reset and following is not None:
            following = self._begin_of_term(following)
        super()._SyncObj__sendNextNodeIdx(node, reset=reset, nextNodeIdx=following, success=success)

    def _begin_of_term(self, index: int) -> int:
        """Return the first uncommitted entry of this term: a leader without it continues there.

        The engine goes back entry by entry, one heartbeat each.
        """
        return self._journal.begin_of_term(index, max(self.raftCommitIndex, self._journal[0][1]) + 1)

    # ------------------------------------------------------------ what the shell calls

    def propose(self, command: bytes, callback: Callable[[object, int], None]) -> None:
        """Queue a command for the next tick. callback(result, reason): may never come if leadership is lost."""
        self._SyncObj__commandsQueue.put_nowait((_REGULAR + command, callback))

    def apply_pause(self) -> float | None:
        """Seconds until more of the committed entries are applied; None when all of them are."""
        if self.raftLastApplied == self.raftCommitIndex:
            return None
        return max(0.0, self._apply_again_at - now())

    def connected(self, peer: str) -> None:
        """Note that a peer is connected."""
        self._SyncObj__onNodeConnected(self._nodes[peer])

    def disconnected(self, peer: str) -> None:
        """Note that a peer is not connected."""
        node = self._nodes[peer]
        self._SyncObj__onNodeDisconnected(node)
        self._wire.cancel_snapshot(peer)
        self._rewound.pop(peer, None)
        if self.role() == LEADER:
            # What was on its way is lost: begin again behind what the peer has acknowledged.
            self._next_index()[node] = max(self.match_index(peer), 1) + 1

    def step(self, peer: str, message: dict[str, Any]) -> None:
        """Pass a message to the engine unchanged."""
        self._SyncObj__onMessageReceived(self._nodes[peer], message)

    def step_append_entries(self, peer: str, message: dict[str, Any]) -> None:
        """Give entries to the engine, without those that the log holds already.

        The engine would truncate at the first entry of a repeated message, acknowledged entries included. The
        commit index is capped to what the message proves to be the same in both logs.
        """
        previous, entries = message["prevLogIdx"], message["entries"]
        first, last = self._journal[0][1], self._journal[-1][1]
        self._conflict = False
        if first <= previous <= last and self._journal[previous - first][2] == message["prevLogTerm"]:
            entries = self._unknown(entries)
            # Nothing new: every leader has what is committed, so the logs are the same up to there at least.
            same = max(previous + len(message["entries"]), self.raftCommitIndex)
            matched = entries[0][1] - 1 if entries else same
            message |= {
                "prevLogIdx": matched,
                "prevLogTerm": self._journal[matched - first][2],
                "entries": entries,
            }
            self._conflict = bool(entries)
        proven = entries[-1][1] if entries else message["prevLogIdx"]
        message["commit_index"] = min(message["commit_index"], proven)
        self.step(peer, message)

    def step_heartbeat(self, peer: str, term: int) -> None:
        """Give the engine a sign of life from the leader of `term`, and nothing else of its message."""
        nothing = {"commit_index": self.raftCommitIndex, "serialized": (b"", False, False)}
        self.step(peer, {"type": "append_entries", "term": term, **nothing})

    def install_snapshot(self, index: int) -> None:
        """Continue from the received snapshot of `index`, and acknowledge it to the current leader.

        What a snapshot holds is committed: every later leader has it too. A node that has applied as much meanwhile,
        or leads, continues from its log.
        """
        if index <= self.raftLastApplied or self.role() == LEADER:
            return
        self._SyncObj__loadDumpFile(clearJournal=True)
        leader = self._getLeader()
        if leader is not None:
            self._SyncObj__sendNextNodeIdx(leader, success=True)

    def _unknown(self, entries: list[Entry]) -> list[Entry]:
        """The entries from the first on that the log lacks or holds with another term."""
        first = self._journal[0][1]
        for number, (_, index, term) in enumerate(entries):
            position = index - first
            if position >= len(self._journal) or self._journal[position][2] != term:
                return entries[number:]
        return []

    def step_next_index(self, peer: str, message: dict[str, Any]) -> None:
        """Give an acknowledgement to the engine, which would rewind what is on its way already.

        It would also follow a peer whose log is longer to behind the end of its own.
        """
        if self.role() != LEADER:
            return
        ahead = self._next_index()[self._nodes[peer]]
        self.step(peer, message)
        self._set_next_index(peer, message, ahead)

    def step_learner(self, peer: str, message: dict[str, Any]) -> None:
        """Take the position of a peer that lost its disk: its earlier acknowledgements no longer count."""
        if self.role() != LEADER:
            return
        node = self._nodes[peer]
        self._SyncObj__raftMatchIndex[node] = 0
        self._SyncObj__lastResponseTime[node] = 0.0
        self._set_next_index(peer, message, self._next_index()[node])

    def _set_next_index(self, peer: str, message: dict[str, Any], ahead: int) -> None:
        """Set the next index of a peer after its reply; `ahead` is the previous next index."""
        following = message["next_node_idx"]
        if message["reset"]:
            following = self._rewind(peer, following)
        else:
            if message["success"]:
                self._rewound.pop(peer, None)
            following = max(following, ahead)
        self._next_index()[self._nodes[peer]] = min(following, self.last_log_index() + 1)

    def _rewind(self, peer: str, following: int) -> int:
        """Return the next index for a peer that rejects: of several rejections in flight, the lowest counts.

        The engine would use the last rejection, move forward again, and repeat this indefinitely.
        """
        term, lowest = self._rewound.get(peer, (0, 0))
        if term == self.raftCurrentTerm:
            following = min(following, lowest)
        self._rewound[peer] = self.raftCurrentTerm, following
        return following

    def add_no_op(self) -> None:
        """Queue an entry that says nothing, to have something new committed."""
        self._SyncObj__commandsQueue.put_nowait((_NO_OP, None))

    def step_down(self, peer: str, term: int) -> None:
        """Take over a higher term that a peer has shown, without voting for it."""
        message = {"type": "request_vote", "term": term, "last_log_index": 0, "last_log_term": -1}
        self.step(peer, message)

    def permit_campaign(self, permitted: bool) -> None:
        """Whether the next tick may start an election that is due."""
        self._may_campaign = permitted

    def campaign_at(self, time: float) -> None:
        """Set the time at which the engine starts an election by itself."""
        self._SyncObj__raftElectionDeadline = time

    def postpone(self, seconds: float) -> None:
        """Exclude these seconds from the time since each contact, with the leader and with each peer."""
        self._SyncObj__raftElectionDeadline += seconds
        for node, heard in self._SyncObj__lastResponseTime.items():
            self._SyncObj__lastResponseTime[node] = min(heard + seconds, now())

    def election_deadline(self) -> float:
        """Return the time at which the election timeout ends, by the engine's clock."""
        return float(self._SyncObj__raftElectionDeadline)

    def random_election_timeout(self) -> float:
        """Return a new random election timeout in seconds."""
        return float(self._SyncObj__generateRaftTimeout())

    def transfer_pending(self) -> bool:
        """True after the leader has asked this node to campaign at once."""
        return bool(self._SyncObj__transferInProgress)

    def role(self) -> int:
        """Return the engine's role: follower, candidate or leader."""
        return int(self._SyncObj__raftState)

    def leader_id(self) -> str | None:
        """Return the leader that the engine knows of; None if it knows none."""
        leader = self._getLeader()
        return leader.id if leader is not None else None

    def no_op_index(self) -> int:
        """Index of the entry with which the current leadership began."""
        return int(self._SyncObj__noopIDx or 0)

    def last_log_index(self) -> int:
        """Return the index of the last log entry."""
        return int(self._journal[-1][1])

    def last_log_term(self) -> int:
        """Return the term of the last log entry."""
        return int(self._journal[-1][2])

    def hand_over(self, peer: str) -> bool:
        """Ask the peer to campaign at once; False when its log is not complete yet."""
        reasons: list[int] = []
        self.transferLeadership(self._nodes[peer], lambda _result, reason: reasons.append(reason))
        return reasons == [SUCCESS]

    def match_index(self, peer: str) -> int:
        """Return the highest index that is known to be on the peer's disk."""
        return int(self._SyncObj__raftMatchIndex.get(self._nodes[peer], 0))

    def last_response(self, peer: str) -> float:
        """Return the time of the peer's last response, by the engine's clock."""
        return float(self._SyncObj__lastResponseTime.get(self._nodes[peer], 0.0))

    def _next_index(self) -> dict[Node, int]:
        next_index: dict[Node, int] = self._SyncObj__raftNextIndex
        return next_index
