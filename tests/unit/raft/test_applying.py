"""A long log is applied a part at a time: the node goes on speaking and answering in between."""

from itertools import pairwise

import pytest

from coordinator.raft.errors import NotLeader
from coordinator.raft.storage.journal import Entry
from tests.unit.raft.lone_node import BASE, HEARTBEAT, Clock, LoneNode, command

LAST = 81
SLICE = HEARTBEAT / 5
COST = SLICE * 0.6
"""Seconds that one entry takes: the second of a slice ends it."""


def old_log() -> list[Entry]:
    return [BASE, *((command(f"{index}"), index, 3) for index in range(2, LAST + 1))]


def with_a_long_log(clock: Clock, *, cost: float = COST) -> LoneNode:
    """A voter that was started again: its log is on the disk, and none of it is applied yet."""
    node = LoneNode(clock, term=3, entries=old_log())
    node.machine.on_apply = lambda: setattr(clock, "time", clock.time + cost)
    node.connect("n2", "n3", last_log_index=LAST)
    return node


def elected_with_a_long_log(clock: Clock) -> LoneNode:
    """It leads term 4, and a majority stores its first entry."""
    node = with_a_long_log(clock)
    node.campaign("n2", "n3")
    node.receive("n2", vote={"term": 4})
    node.raft.tick()
    node.sent.clear()
    node.acknowledge("n2")
    return node


def rested(node: LoneNode) -> bool:
    """Let time pass until it applies more; False when nothing is left."""
    pause = node.raft.apply_pause()
    node.clock.time += pause or 0.0
    return pause is not None


def test_a_new_leader_sends_heartbeats_while_it_applies_a_long_log(clock: Clock) -> None:
    """However many entries are committed at once, its peers never miss it."""
    node = elected_with_a_long_log(clock)
    assert node.core.raftCommitIndex == LAST + 1
    heard_at = [clock.time]
    while rested(node):
        node.acknowledge("n2")
        if any(sent.peer == "n3" for sent in node.taken("append_entries")):
            heard_at.append(clock.time)
    assert [text for _, text in node.machine.applied] == [f"{index}".encode() for index in range(2, LAST + 1)]
    assert len(heard_at) > 5
    assert max(after - before for before, after in pairwise(heard_at)) <= HEARTBEAT + 3 * SLICE


def test_a_tick_applies_what_a_part_of_a_heartbeat_interval_allows(clock: Clock) -> None:
    """The entry that has begun is finished; then it rests, and `apply_pause` tells for how long."""
    node = elected_with_a_long_log(clock)
    assert len(node.machine.applied) == 2
    for ticks in range(1, 4):
        node.raft.tick()
        assert len(node.machine.applied) == 2 * ticks, "it rests"
        assert rested(node)
        node.raft.tick()
        assert len(node.machine.applied) == 2 + 2 * ticks


def test_a_leader_counts_once_it_has_applied_its_whole_log(clock: Clock) -> None:
    """Until then it accepts nothing, and nothing is read from a state that lacks entries."""
    node = elected_with_a_long_log(clock)
    while rested(node):
        assert node.heard == []
        with pytest.raises(NotLeader):
            node.propose("too early")
        node.acknowledge("n2")
    assert node.heard == [4]
    assert node.core.raftLastApplied == LAST + 1


def test_a_follower_answers_while_it_applies_a_long_log(clock: Clock) -> None:
    """It learns that all of it is committed, and acknowledges each heartbeat before the last entry is applied."""
    node = with_a_long_log(clock)
    heartbeats = 1
    node.append("n2", term=3, after=(LAST, 3), commit=LAST)
    while rested(node):
        node.append("n2", term=3, after=(LAST, 3), commit=LAST)
        heartbeats += 1
    assert heartbeats == (LAST - 1) // 2
    assert sum(sent.envelope.next_index.success for sent in node.taken("next_index")) == heartbeats
    assert node.core.raftLastApplied == LAST


def test_a_snapshot_by_size_waits_for_the_log_to_be_applied(clock: Clock) -> None:
    """A long log is larger than the bound from its first entry on: each part would bring a snapshot of its own."""
    node = LoneNode(clock, term=3, entries=old_log(), snapshot_bytes=20)
    node.machine.on_apply = lambda: setattr(clock, "time", clock.time + COST)
    node.connect("n2", "n3", last_log_index=LAST)
    node.append("n2", term=3, after=(LAST, 3), commit=LAST)
    while rested(node):
        assert not node.offloaded
        node.raft.tick()
    assert len(node.offloaded) == 1


def test_the_entries_of_older_terms_are_not_looked_at_one_by_one(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that lacks much of a long log acknowledges it part by part; none of this commits anything.

    The bare engine goes through all of them at each tick until an entry of its own term is on a majority.
    """
    node = with_a_long_log(clock)
    node.campaign("n2", "n3")
    node.receive("n2", vote={"term": 4})
    node.raft.tick()
    looked_at: list[int] = []
    read = type(node.raft._journal).__getitem__

    def watched(journal: object, item: int) -> object:
        looked_at.append(item)
        return read(journal, item)  # type: ignore[call-overload]

    monkeypatch.setattr("coordinator.raft.storage.journal.Journal.__getitem__", watched)
    node.acknowledge("n2", LAST - 1)
    assert node.core.raftCommitIndex == 1
    assert len(looked_at) < LAST // 2
