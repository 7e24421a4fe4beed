"""A snapshot from the leader takes long to install: the node goes on, and promises nothing before it is in effect."""

import pytest

from coordinator.raft.engine import LEADER
from coordinator.raft.storage.journal import Entry
from tests.unit.raft.lone_node import BASE, Clock, LoneNode, command
from tests.unit.raft.storage import snapshot_bytes
from zkp.protocol.v1 import raft_pb2 as pb


def entries(first: int, last: int, term: int = 3) -> list[Entry]:
    return [(command(f"{index}/{term}"), index, term) for index in range(first, last + 1)]


def snapshot_at(index: int) -> bytes:
    before, last = entries(index - 1, index)
    return snapshot_bytes(before, last, f"state at {index}".encode())


def send_snapshot(node: LoneNode, index: int, *, leader: str = "n2", term: int = 3) -> None:
    part = pb.InstallSnapshot(term=term, commit_index=index + 10, data=snapshot_at(index), first=True, last=True)
    node.give(leader, envelope_term=term, install_snapshot=part)


def installing(clock: Clock, index: int = 50) -> LoneNode:
    """The node has the last part of a snapshot; the other thread has not begun."""
    node = LoneNode(clock, term=3, entries=(BASE,), snapshot_entries=5)
    node.connect("n2", "n3")
    send_snapshot(node, index)
    node.sent.clear()
    assert len(node.offloaded) == 1
    return node


def answers(node: LoneNode) -> list[tuple[str, int, bool, bool]]:
    """(peer, next entry, success, reset) of each answer to a leader since the last look."""
    taken = [(sent.peer, sent.envelope.next_index) for sent in node.taken("next_index")]
    return [(peer, answer.next_index, answer.success, answer.reset) for peer, answer in taken]


def test_heartbeats_are_answered_while_a_snapshot_is_installed(clock: Clock) -> None:
    """They acknowledge nothing; the acknowledgement follows when the state, the log and the disk are changed."""
    node = installing(clock)
    for _ in range(3):
        node.append("n2", term=3, after=(50, 3), commit=50)
    assert answers(node) == [("n2", 2, False, False)] * 3
    assert node.log() == [BASE]
    assert node.machine.applied == []
    node.work_off()
    assert answers(node) == [("n2", 51, True, False)]
    assert node.log() == node.durable_entries() == entries(49, 50)
    assert node.machine.applied == [(0, b"state at 50")]


def test_the_nodes_own_thread_stores_and_decodes_no_snapshot(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the other thread is done, putting it into effect neither writes a file of that size nor decodes."""
    node = installing(clock)
    work, done = node.offloaded.pop()
    result = work(lambda: None)
    assert node.machine.applied == []
    assert node.core.raftLastApplied == 1
    monkeypatch.setattr(node.disk, "replace", None)
    monkeypatch.setattr(node.machine, "load", None)
    done(result)
    assert node.machine.applied == [(0, b"state at 50")]
    assert node.core.raftLastApplied == 50


def test_entries_behind_the_snapshot_are_asked_for_again(clock: Clock) -> None:
    """They came before it was in effect: neither kept nor acknowledged, and the leader is told where to go on."""
    node = installing(clock)
    node.append("n2", *entries(51, 52), term=3, after=(50, 3), commit=52)
    assert not any(success for _, _, success, _ in answers(node))
    node.work_off()
    answers(node)
    node.append("n2", term=3, after=(52, 3), commit=52)
    assert answers(node) == [("n2", 51, False, True)]
    node.append("n2", *entries(51, 52), term=3, after=(50, 3), commit=52)
    assert answers(node) == [("n2", 53, True, False)]


def test_a_leader_that_is_heard_meanwhile_is_not_campaigned_against(clock: Clock) -> None:
    """Its heartbeats count, although nothing else of them does."""
    node = installing(clock)
    for _ in range(20):
        node.elapse(0.1)
        node.append("n2", term=3, after=(50, 3), commit=50)
    assert not node.taken("pre_vote_request")
    assert node.raft.leader_id == "n2"


def test_a_leader_of_a_later_term_gets_the_acknowledgement(clock: Clock) -> None:
    """What a snapshot holds is committed, so that the next leader has it too; the deposed one hears nothing."""
    node = installing(clock)
    node.append("n3", term=4, after=(60, 4), commit=55)
    assert node.term == 4
    answers(node)
    node.work_off()
    assert answers(node) == [("n3", 51, True, False)]


def test_without_a_known_leader_nobody_gets_an_acknowledgement(clock: Clock) -> None:
    """A term without a leader has begun meanwhile."""
    node = installing(clock)
    node.receive("n3", envelope_term=7, next_index=pb.NextIndex(next_index=1))
    answers(node)
    node.work_off()
    assert answers(node) == []
    assert node.core.raftLastApplied == 50


def test_another_snapshot_is_not_taken_in_meanwhile(clock: Clock) -> None:
    """Memory holds one at a time; afterwards one is installed that begins with its first part, and no rest of one."""
    node = installing(clock)
    send_snapshot(node, 70)
    assert len(node.offloaded) == 1
    part = pb.InstallSnapshot(term=3, commit_index=80, data=snapshot_at(70)[:9], first=True, last=False)
    node.give("n2", install_snapshot=part)
    node.work_off()
    rest = pb.InstallSnapshot(term=3, commit_index=80, data=snapshot_at(70)[9:], first=False, last=True)
    node.give("n2", install_snapshot=rest)
    assert not node.offloaded
    send_snapshot(node, 70)
    node.work_off()
    assert node.core.raftLastApplied == 70


def test_a_node_that_has_applied_as_much_meanwhile_goes_on_from_its_log(clock: Clock) -> None:
    """A late snapshot does not set its state back."""
    node = installing(clock, index=3)
    work, done = node.offloaded.pop()
    result = work(lambda: None)
    node.raft._snapshots.installing = False
    node.append("n2", *entries(2, 5), term=3, after=(1, 0), commit=5)
    done(result)
    assert node.core.raftLastApplied == 5
    assert [index for index, _ in node.machine.applied] == [2, 3, 4, 5]


def test_a_node_that_has_come_to_lead_goes_on_from_its_log(clock: Clock) -> None:
    """Callers wait for entries that would be skipped."""
    node = installing(clock)
    node.campaign("n2", "n3")
    node.give("n2", vote=pb.Vote(term=node.term))
    assert node.core.role() == LEADER
    node.work_off()
    assert node.core.raftLastApplied < 50
    assert node.machine.applied == []


@pytest.mark.parametrize("done", [True, False])
def test_a_crash_while_a_snapshot_is_installed_leaves_the_old_state_or_the_new(clock: Clock, done: bool) -> None:
    """Before it is stored there is nothing of it; afterwards the node starts from it."""
    node = installing(clock)
    if done:
        work, _ = node.offloaded.pop()
        work(lambda: None)
    node.lose_power()
    assert node.log() == (entries(49, 50) if done else [BASE])
    assert node.core.raftLastApplied == (50 if done else 1)


def test_no_snapshot_of_its_own_is_made_meanwhile(clock: Clock) -> None:
    """The one that comes is newer."""
    node = LoneNode(clock, term=3, entries=(BASE, *entries(2, 20)), snapshot_entries=5)
    node.connect("n2", "n3")
    send_snapshot(node, 50)
    node.core._SyncObj__raftCommitIndex = 20
    node.raft.tick()
    assert node.core.raftLastApplied == 20
    assert len(node.offloaded) == 1
