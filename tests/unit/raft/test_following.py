"""A follower: what it has acknowledged it keeps, what it has not proved it does not commit."""

import pytest
from pysyncobj import SyncObj

from coordinator.raft.engine import Core
from coordinator.raft.errors import FrameError, StorageError
from coordinator.raft.membership import MemberState
from coordinator.raft.node import RaftNode
from coordinator.raft.storage.journal import Entry
from coordinator.raft.transport import framing
from coordinator.raft.wire import EngineHost
from tests.unit.raft.lone_node import BASE, Clock, LoneNode, command
from tests.unit.raft.storage import CLUSTER, snapshot_bytes
from zkp.protocol.v1 import raft_pb2 as pb


def entries(first: int, last: int, term: int) -> list[Entry]:
    return [(command(f"{index}/{term}"), index, term) for index in range(first, last + 1)]


def follower(clock: Clock, *more: Entry, term: int = 3) -> LoneNode:
    """A voter of the term with that log, connected to both peers."""
    node = LoneNode(clock, term=term, entries=(BASE, *more))
    node.connect("n2", "n3")
    node.sent.clear()
    return node


def positions(node: LoneNode) -> list[tuple[int, bool, bool]]:
    """(next index, success, reset) of every answer since the last look."""
    answers = [sent.envelope.next_index for sent in node.taken("next_index")]
    return [(answer.next_index, answer.success, answer.reset) for answer in answers]


def the_bare_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries reach the engine as they came, and it truncates as it always does."""
    original = SyncObj._SyncObj__deleteEntriesFrom
    monkeypatch.setattr(Core, "_SyncObj__deleteEntriesFrom", original)
    monkeypatch.setattr(Core, "step_append_entries", Core.step)


# ------------------------------------------------------------ what was acknowledged stays


@pytest.mark.parametrize("trims", [True, False])
@pytest.mark.parametrize(
    ("after", "repeated"),
    [((1, 0), (2, 4)), ((1, 0), (2, 2)), ((3, 3), (4, 5)), ((6, 3), None), ((2, 3), None)],
    ids=["first message", "its beginning", "its middle", "heartbeat", "late heartbeat"],
)
def test_a_repeated_message_removes_nothing(
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    trims: bool,
    after: tuple[int, int],
    repeated: tuple[int, int] | None,
) -> None:
    """The bare engine cuts the log behind every message, also what it has acknowledged and others count on."""
    if not trims:
        the_bare_engine(monkeypatch)
    node = follower(clock)
    log = entries(2, 6, 3)
    node.append("n2", *log, term=3, after=(1, 0))
    assert positions(node) == [(7, True, False)]
    again = entries(*repeated, 3) if repeated else []
    node.append("n2", *again, term=3, after=after)
    assert node.durable_entries() == node.log()
    untouched = after == (6, 3)
    assert (node.log() == [BASE, *log]) is (trims or untouched)
    answered = positions(node)[0]
    assert answered[1:] == (True, False)


def test_an_overlapping_message_adds_what_is_new(clock: Clock) -> None:
    """And the answer speaks for all of it."""
    node = follower(clock)
    node.append("n2", *entries(2, 4, 3), term=3, after=(1, 0))
    node.append("n2", *entries(3, 7, 3), term=3, after=(2, 3))
    assert node.log() == node.durable_entries() == [BASE, *entries(2, 7, 3)]
    assert positions(node)[-1] == (8, True, False)


def test_entries_that_conflict_with_the_leaders_are_replaced(clock: Clock) -> None:
    """From the first that differs on, and only with the leader's in their places."""
    node = follower(clock, *entries(2, 6, 3))
    node.append("n2", *entries(4, 5, 4), term=4, after=(3, 3))
    assert node.log() == node.durable_entries() == [BASE, *entries(2, 3, 3), *entries(4, 5, 4)]
    assert positions(node) == [(6, True, False)]


def test_a_message_that_does_not_fit_changes_nothing(clock: Clock) -> None:
    """Before its beginning another log lies, or none: the answer says where to go on, a whole term further back."""
    node = follower(clock, *entries(2, 4, 3))
    node.append("n2", *entries(10, 11, 5), term=5, after=(9, 5), commit=9)
    assert positions(node) == [(5, False, True)]
    node.append("n2", *entries(5, 6, 5), term=5, after=(4, 5), commit=9)
    assert positions(node) == [(2, False, True)]
    assert node.log() == [BASE, *entries(2, 4, 3)]
    assert node.core.raftCommitIndex == 1


def test_an_answer_goes_back_behind_nothing_that_is_committed(clock: Clock) -> None:
    """There every leader's log is the same, in whatever term it was written; nor behind the beginning of the log."""
    node = follower(clock, *entries(2, 6, 3))
    node.append("n2", term=4, after=(4, 3), commit=4)
    positions(node)
    node.append("n2", *entries(7, 7, 5), term=5, after=(6, 5))
    assert positions(node) == [(5, False, True)]


def test_a_committed_entry_is_never_replaced(clock: Clock) -> None:
    """A leader that asks for it is wrong beyond repair: the node ends rather than forget."""
    node = follower(clock, *entries(2, 4, 3))
    node.append("n2", term=3, after=(4, 3), commit=4)
    with pytest.raises(StorageError, match="refusing to remove entry 3, committed up to 4"):
        node.append("n2", *entries(3, 3, 9), term=9, after=(2, 3))
    assert node.durable_entries() == [BASE, *entries(2, 4, 3)]


# ------------------------------------------------------------ what is committed


@pytest.mark.parametrize("caps", [True, False])
def test_only_what_the_message_proves_is_committed(clock: Clock, monkeypatch: pytest.MonkeyPatch, caps: bool) -> None:
    """Entries behind it may be those of a leader that never was: the leader's commit index is not theirs."""
    if not caps:
        monkeypatch.setattr(RaftNode, "_on_append_entries", _believe_the_commit_index)
    node = follower(clock, *entries(2, 5, 3))
    node.append("n2", term=4, after=(3, 3), commit=5)
    assert node.core.raftCommitIndex == (3 if caps else 5)
    assert [index for index, _ in node.machine.applied] == ([2, 3] if caps else [2, 3, 4, 5])


def _believe_the_commit_index(_node: RaftNode, core: Core, peer: str, envelope: pb.Envelope) -> None:
    """As the shell does, but for the cap."""
    message = framing.to_engine(envelope)
    commit_index = message["commit_index"]
    feed = core.step
    core.step = lambda peer, message: feed(peer, message | {"commit_index": commit_index})  # type: ignore[method-assign]
    core.step_append_entries(peer, message)


def test_entries_are_applied_in_order_and_once(clock: Clock) -> None:
    """As the leader tells that they are committed, however often it tells."""
    node = follower(clock)
    node.append("n2", *entries(2, 4, 3), term=3, after=(1, 0), commit=2)
    node.append("n2", *entries(5, 6, 3), term=3, after=(4, 3), commit=5)
    node.append("n2", *entries(5, 6, 3), term=3, after=(4, 3), commit=5)
    node.append("n2", term=3, after=(6, 3), commit=6)
    assert node.machine.applied == [(index, f"{index}/3".encode()) for index in range(2, 7)]


def test_a_heartbeat_speaks_for_what_is_committed(clock: Clock) -> None:
    """A late one does not make the leader send again what this node has long had."""
    node = follower(clock, *entries(2, 5, 3))
    node.append("n2", term=3, after=(5, 3), commit=5)
    positions(node)
    node.append("n2", term=3, after=(2, 3), commit=5)
    assert positions(node) == [(6, True, False)]


# ------------------------------------------------------------ nothing leaves before the disk has it


@pytest.mark.parametrize("syncs", [True, False])
def test_an_acknowledgement_leaves_after_the_entries_are_on_the_disk(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, syncs: bool
) -> None:
    """The bare engine answers first: a loss of power then loses what others count as stored."""
    if not syncs:
        monkeypatch.setattr(
            EngineHost, "send", lambda wire, peer, message: wire._send(peer, framing.from_engine(message))
        )
        monkeypatch.setattr(
            "coordinator.raft.storage.journal.Journal.setRaftCommitIndex", lambda _journal, _index: None
        )
    node = follower(clock)
    node.append("n2", *entries(2, 4, 3), term=3, after=(1, 0))
    (answer,) = node.taken("next_index")
    assert answer.envelope.next_index.next_index == 5
    assert (answer.durable_entries() == [BASE, *entries(2, 4, 3)]) is syncs


def test_a_removal_is_on_the_disk_before_it_is_acknowledged(clock: Clock) -> None:
    """So is the term in which it happened."""
    node = follower(clock, *entries(2, 6, 3))
    node.append("n2", *entries(4, 4, 4), term=4, after=(3, 3))
    (answer,) = node.taken("next_index")
    assert answer.durable_entries() == [BASE, *entries(2, 3, 3), *entries(4, 4, 4)]
    assert answer.durable_vote()["term"] == 4


def test_a_full_disk_ends_the_node_before_it_promises(clock: Clock) -> None:
    """No acknowledgement leaves, and whoever drives the node learns that the process must end."""
    node = follower(clock)
    node.disk.full = True
    with pytest.raises(StorageError, match="No space left on device"):
        node.append("n2", *entries(2, 40, 3), term=3, after=(1, 0))
    assert not node.taken("next_index")
    with pytest.raises(StorageError, match="the process must end"):
        node.append("n2", *entries(2, 3, 3), term=3, after=(1, 0))


def test_everything_acknowledged_is_there_after_a_loss_of_power(clock: Clock) -> None:
    """Entries, term and vote; what was committed is applied again once the leader says so."""
    node = follower(clock)
    node.append("n2", *entries(2, 6, 3), term=3, after=(1, 0), commit=4)
    node.lose_power()
    assert node.log() == [BASE, *entries(2, 6, 3)]
    assert (node.term, node.machine.applied) == (3, [])
    node.connect("n2", "n3")
    node.append("n2", term=3, after=(6, 3), commit=6)
    assert [index for index, _ in node.machine.applied] == [2, 3, 4, 5, 6]


# ------------------------------------------------------------ strangers' frames


def test_frames_of_another_cluster_close_the_connection(clock: Clock) -> None:
    """Whatever they say; the log and the term stay."""
    node = follower(clock)
    message = pb.AppendEntries(term=9, prev_index=1, entries=[pb.Entry(command=b"\x00x", index=2, term=9)])
    for cluster_id in ("f" * 32, ""):
        with pytest.raises(FrameError, match="frame of cluster"):
            node.raft.receive("n2", pb.Envelope(cluster_id=cluster_id, term=9, append_entries=message))
    assert (node.term, node.log()) == (3, [BASE])


def test_nothing_is_heard_before_the_hello(clock: Clock) -> None:
    """A connection whose peer has not introduced itself says nothing."""
    node = LoneNode(clock, term=3, entries=(BASE,))
    node.raft.link_up("n2")
    node.append("n2", *entries(2, 3, 9), term=9, after=(1, 0))
    assert (node.term, node.log()) == (3, [BASE])
    assert not node.taken("next_index")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"node_id": "n3"}, "says it is 'n3' looking for 'n1'"),
        ({"peer_id": "n3"}, "says it is 'n2' looking for 'n3'"),
        ({"version": 2}, "speaks version 2, this node version 1"),
        ({"cluster_id": "f" * 32}, f"belongs to cluster {'f' * 32}, this node to {CLUSTER}"),
    ],
)
def test_a_hello_that_lies_closes_the_connection(clock: Clock, changes: dict[str, object], message: str) -> None:
    """The certificate said who it is: another name, another addressee, another cluster are refused in words."""
    node = LoneNode(clock, term=3, entries=(BASE,))
    node.raft.link_up("n2")
    with pytest.raises(FrameError, match=message):
        node.hello("n2", **changes)  # type: ignore[arg-type]  # a table of keyword arguments
    assert not node.raft.status().peers["n2"].connected


def test_entries_out_of_order_close_the_connection_and_change_nothing(clock: Clock) -> None:
    """Instead of ending the process in the journal."""
    node = follower(clock)
    with pytest.raises(FrameError, match="do not follow one another"):
        node.append("n2", (command("a"), 3, 3), term=3, after=(1, 0))
    assert node.log() == [BASE]


# ------------------------------------------------------------ snapshots


def snapshot_at(index: int, term: int = 3) -> bytes:
    before, last = entries(index - 1, index, term)
    return snapshot_bytes(before, last, f"state at {index}".encode())


def install(node: LoneNode, data: bytes, *, term: int, commit: int, parts: int = 1) -> None:
    size = -(-len(data) // parts)
    for number in range(parts):
        part = pb.InstallSnapshot(
            term=term,
            commit_index=commit,
            data=data[number * size : (number + 1) * size],
            first=number == 0,
            last=number == parts - 1,
        )
        node.give("n2", envelope_term=term, install_snapshot=part)
    node.work_off()


def test_a_snapshot_takes_the_place_of_a_log_that_is_far_behind(clock: Clock) -> None:
    """It is durable, loaded and the log begins at it before it is acknowledged."""
    node = follower(clock)
    install(node, snapshot_at(50), term=3, commit=60, parts=3)
    assert node.machine.applied == [(0, b"state at 50")]
    (answer,) = [sent for sent in node.taken("next_index") if sent.envelope.next_index.success]
    assert answer.envelope.next_index.next_index == 51
    assert answer.durable_entries() == node.log() == entries(49, 50, 3)
    assert (node.core.raftCommitIndex, node.core.raftLastApplied) == (50, 50)
    node.append("n2", *entries(51, 52, 3), term=3, after=(50, 3), commit=51)
    assert node.machine.applied[1:] == [(51, b"51/3")]


@pytest.mark.parametrize("knows", [True, False])
def test_a_snapshot_does_not_vouch_for_what_follows_it_in_the_log(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, knows: bool
) -> None:
    """Entries behind it stay, since others may count on them, but they may be those of a leader that never was.

    The bare engine acknowledges the whole log: the leader would count entries as stored here that are not.
    """
    if not knows:
        original = SyncObj._SyncObj__sendNextNodeIdx
        monkeypatch.setattr(Core, "_SyncObj__sendNextNodeIdx", original)
    node = follower(clock, *entries(2, 12, 3))
    install(node, snapshot_at(8), term=5, commit=12)
    assert node.log() == entries(7, 12, 3)
    assert positions(node)[-1] == (9 if knows else 13, True, False)
    assert node.core.raftCommitIndex == 8


@pytest.mark.parametrize("ignores", [True, False])
def test_a_part_of_a_snapshot_commits_nothing(clock: Clock, monkeypatch: pytest.MonkeyPatch, ignores: bool) -> None:
    """It carries the leader's commit index, and the bare engine would commit the conflicting log by it."""
    if not ignores:
        monkeypatch.setattr(
            RaftNode,
            "_on_install_snapshot",
            lambda _node, core, peer, envelope: core.step(peer, framing.to_engine(envelope)),
        )
    node = follower(clock, *entries(2, 12, 3))
    part = pb.InstallSnapshot(term=5, commit_index=12, data=b"half of it", first=True, last=False)
    node.give("n2", envelope_term=5, install_snapshot=part)
    assert node.core.raftCommitIndex == (1 if ignores else 12)
    assert bool(node.machine.applied) is not ignores


def test_every_part_of_a_snapshot_is_answered(clock: Clock) -> None:
    """On a slow line heartbeats wait behind the parts: a leader that depends on this node must hear from it."""
    node = follower(clock)
    install(node, snapshot_at(50), term=3, commit=60, parts=4)
    assert positions(node) == [(2, False, False)] * 4 + [(51, True, False)]


@pytest.mark.parametrize(
    "data",
    [b"rubbish", snapshot_at(50)[:-1], snapshot_bytes(BASE, BASE, b"", "f" * 32), snapshot_at(2)],
    ids=["rubbish", "cut off", "of another cluster", "older than this node"],
)
def test_a_useless_snapshot_is_neither_stored_nor_acknowledged(clock: Clock, data: bytes) -> None:
    """The bare engine acknowledges one that does not load all the same."""
    node = follower(clock, *entries(2, 4, 3))
    node.append("n2", term=3, after=(4, 3), commit=4)
    positions(node)
    install(node, data, term=3, commit=4)
    assert not any(success for _, success, _ in positions(node))
    assert node.log() == [BASE, *entries(2, 4, 3)]
    assert not [name for name in node.disk.names() if name.endswith(".snapshot")]


def test_a_snapshot_that_begins_anew_forgets_the_parts_before(clock: Clock) -> None:
    """The connection broke in between, or the leader changed."""
    node = follower(clock)
    part = pb.InstallSnapshot(term=3, commit_index=3, data=b"the beginning of another", first=True, last=False)
    node.give("n2", install_snapshot=part)
    install(node, snapshot_at(50), term=3, commit=60, parts=2)
    assert node.machine.applied == [(0, b"state at 50")]


def test_a_state_that_does_not_load_ends_the_node(clock: Clock) -> None:
    """Intact bytes that this version cannot read: going on without them would be another state."""
    node = follower(clock)
    before, last = entries(49, 50, 3)
    unreadable = snapshot_bytes(before, last, b"does not decode")
    with pytest.raises(StorageError, match="snapshot 50 does not load"):
        install(node, unreadable, term=3, commit=60)
    assert not any(success for _, success, _ in positions(node))


# ------------------------------------------------------------ coming back without a disk


def test_a_wiped_node_catches_up_before_it_votes(clock: Clock) -> None:
    """Until then it says so in every answer; the leader tells it when everything from before has been committed."""
    node = LoneNode(clock, standing=None, bootstrap=True)
    node.connect("n2", last_log_index=9)
    assert node.raft.status().membership.startswith("catching up")
    node.append("n2", *entries(2, 6, 3), term=3, after=(1, 0), commit=6, vouched=8)
    node.append("n2", *entries(7, 8, 3), term=3, after=(6, 3), commit=7, vouched=8)
    assert all(sent.envelope.next_index.learner for sent in node.taken("next_index"))
    assert node.raft.status().membership.startswith("catching up")
    node.append("n2", term=3, after=(8, 3), commit=8, vouched=8)
    assert node.raft.status().membership.startswith("member")
    node.taken("next_index")
    node.append("n2", term=3, after=(8, 3), commit=8)
    assert [sent.envelope.next_index.learner for sent in node.taken("next_index")] == [False]


def test_a_founding_node_and_its_peers_begin_together(clock: Clock) -> None:
    """The others hear of the new cluster at once; all of them vote from the beginning."""
    node = LoneNode(clock, standing=None, bootstrap=True)
    for peer in ("n2", "n3"):
        node.raft.link_up(peer)
        node.hello(peer, cluster_id="", last_log_index=0)
    told = [sent for sent in node.taken("hello") if sent.envelope.cluster_id == CLUSTER]
    assert {sent.peer for sent in told} == {"n2", "n3"}
    assert {sent.envelope.hello.last_log_index for sent in told} == {1}
    assert node.raft.status().membership == f"member of cluster {CLUSTER}"
    assert node.raft._membership.standing is MemberState.VOTER
    assert node.durable_entries() in ([], [BASE])
