"""What a leader sends to whom: everything once, nothing too large, and a snapshot where the log is gone."""

import pytest

from coordinator.raft.transport import framing
from tests.unit.raft.lone_node import BASE, ELECTION_TIMEOUT, HEARTBEAT, Clock, LoneNode, Sent, indexes_for, leader
from zkp.protocol.v1 import raft_pb2 as pb


def test_an_idle_link_is_kept_warm(clock: Clock) -> None:
    """A heartbeat each period; and when something new is there, no empty message besides."""
    node = leader(clock)
    for _ in range(10):
        node.elapse(0.1)
        node.acknowledge("n2")
    beats = [sent for sent in node.taken("append_entries") if sent.peer == "n2"]
    assert 15 <= len(beats) <= 21
    node.acknowledge("n2")
    node.acknowledge("n3")
    node.taken("append_entries")
    node.propose("a")
    assert indexes_for(node, "n2") == [[3]]


def test_a_peer_that_lags_is_sent_large_messages_but_none_too_large(clock: Clock) -> None:
    """About half a mebibyte each, so that every frame stays within bounds, in order and without gaps."""
    node = leader(clock)
    node.raft.link_down("n3")
    for number in range(12):
        node.raft.propose(bytes([65 + number]) * 200_000, node.results.append)
        node.raft.tick()
        node.acknowledge("n2")
    node.sent.clear()
    node.connect("n3")
    node.elapse(HEARTBEAT + 0.01)
    sent = [one for one in node.sent if one.peer == "n3" and one.kind == "append_entries"]
    sizes = [len(framing.pack(one.envelope)) for one in sent]
    assert max(sizes) < framing.MAX_FRAME / 8
    indexes = [entry.index for one in sent for entry in one.envelope.append_entries.entries]
    assert indexes == list(range(3, 15))


def test_a_peer_that_does_not_read_is_waited_for(clock: Clock) -> None:
    """With a mebibyte on its way nothing is added but heartbeats; the others are not held up."""
    node = leader(clock)
    node.backlogs["n3"] = 2 << 20
    for text in "abc":
        node.propose(text)
    node.elapse(HEARTBEAT + 0.01)
    assert [index for indexes in indexes_for(node, "n3") for index in indexes] == []
    node.acknowledge("n2")
    assert len(node.results) == 3
    node.backlogs["n3"] = 0
    node.elapse(HEARTBEAT + 0.01)
    assert indexes_for(node, "n3")[0] == [3, 4, 5]


def test_nothing_is_sent_to_a_peer_that_is_not_connected(clock: Clock) -> None:
    """Nor does its absence stop the others."""
    node = leader(clock)
    node.raft.link_down("n3")
    node.propose("a")
    assert {sent.peer for sent in node.taken("append_entries")} == {"n2"}
    node.acknowledge("n2")
    assert node.results == ["result of a"]


# ------------------------------------------------------------ snapshots for peers


def parts_for(node: LoneNode, peer: str) -> list[Sent]:
    return [sent for sent in node.taken("install_snapshot") if sent.peer == peer]


def compacted_leader(clock: Clock) -> LoneNode:
    """A leader whose log begins behind entry 1: it started from a snapshot of entry 40."""
    node = leader(clock, snapshot_entries=30)
    for number in range(40):
        node.propose(f"{number}".ljust(20_000, "."))
        node.acknowledge("n2")
    work, done = node.offloaded[0]
    done(work(lambda: None))
    node.lose_power()
    node.connect("n2", "n3")
    node.elect("n2")
    assert node.log()[0][1] > 20
    return node


def test_a_peer_that_lags_behind_the_log_is_sent_the_snapshot_in_parts(clock: Clock) -> None:
    """And then the entries that follow it."""
    node = compacted_leader(clock)
    node.give("n3", next_index=pb.NextIndex(next_index=2, reset=True, success=False))
    node.elapse(HEARTBEAT + 0.01)
    parts = parts_for(node, "n3")
    messages = [sent.envelope.install_snapshot for sent in parts]
    assert len(messages) > 1
    assert [message.first for message in messages] == [True] + [False] * (len(messages) - 1)
    assert [message.last for message in messages] == [False] * (len(messages) - 1) + [True]
    assert max(len(framing.pack(sent.envelope)) for sent in parts) < framing.MAX_FRAME / 8
    other = LoneNode(clock, term=node.term, entries=(BASE,))
    other.connect("n2")
    for message in messages:
        other.give("n2", install_snapshot=message)
    other.work_off()
    assert other.core.raftLastApplied == node.raft.status().snapshot_index
    assert indexes_for(node, "n3")[0][0] == node.raft.status().snapshot_index + 1


def test_a_slow_peer_is_sent_a_snapshot_as_fast_as_it_reads(clock: Clock) -> None:
    """Memory stays bounded, heartbeats go in between, and the leader does not lose its place."""
    node = compacted_leader(clock)
    node.backlogs["n3"] = 2 << 20
    node.give("n3", next_index=pb.NextIndex(next_index=2, reset=True, success=False))
    for _ in range(20):
        node.elapse(HEARTBEAT)
        node.acknowledge("n2")
    assert not parts_for(node, "n3")
    assert indexes_for(node, "n3").count([]) >= 15
    node.backlogs["n3"] = 0
    node.give("n3", next_index=pb.NextIndex(next_index=2, reset=True, success=False))
    node.elapse(HEARTBEAT)
    assert parts_for(node, "n3")[-1].envelope.install_snapshot.last


def test_a_peer_that_answers_parts_of_a_snapshot_keeps_its_leader(clock: Clock) -> None:
    """It is all that the leader has, and its line is busy: each part that arrives is a sign of life."""
    node = compacted_leader(clock)
    node.raft.link_down("n2")
    node.backlogs["n3"] = 2 << 20
    for _ in range(20):
        node.elapse(ELECTION_TIMEOUT / 2)
        node.give("n3", next_index=pb.NextIndex(next_index=2, reset=False, success=False))
    assert node.raft.leading_term == node.term
    assert not parts_for(node, "n3")


def test_a_snapshot_is_sent_from_its_beginning_after_a_broken_connection(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of one is worth nothing to whoever has a new connection."""
    node = compacted_leader(clock)

    def one_part_only(peer: str) -> int:
        return 2 << 20 if node.taken("install_snapshot") else 0

    monkeypatch.setattr(node, "backlog", one_part_only)
    node.give("n3", next_index=pb.NextIndex(next_index=2, reset=True, success=False))
    node.elapse(0.02)
    node.raft.link_down("n3")
    monkeypatch.undo()
    node.connect("n3")
    node.give("n3", next_index=pb.NextIndex(next_index=2, reset=True, success=False))
    node.elapse(HEARTBEAT + 0.01)
    assert parts_for(node, "n3")[0].envelope.install_snapshot.first
