"""Who led when: the landmarks that operators look for, and how often leadership changed hands."""

import logging

import pytest

from coordinator.raft.leader_changes import LeaderChangeCounter


@pytest.fixture
def seen(caplog: pytest.LogCaptureFixture) -> LeaderChangeCounter:
    """Of a node that follows."""
    caplog.set_level(logging.INFO, "zkp.raft")
    return LeaderChangeCounter("coordinator-1")


def landmarks(caplog: pytest.LogCaptureFixture) -> list[tuple[str, int, str]]:
    return [(record.getMessage(), record.term, record.peer) for record in caplog.records]  # type: ignore[attr-defined]


def test_a_new_leader_is_said_once_with_term_and_peer(
    seen: LeaderChangeCounter, caplog: pytest.LogCaptureFixture
) -> None:
    """However often the node looks."""
    for _ in range(3):
        seen.observe("coordinator-2", 4)
    assert seen.changes == 1
    assert landmarks(caplog) == [("entering follower state", 4, "coordinator-2")]


def test_the_same_node_in_a_later_term_is_a_new_leadership(seen: LeaderChangeCounter) -> None:
    """Between the two nobody led."""
    seen.observe("coordinator-2", 4)
    seen.observe(None, 5)
    seen.observe("coordinator-2", 5)
    assert seen.changes == 2


def test_leading_oneself_counts_and_is_said_by_others(
    seen: LeaderChangeCounter, caplog: pytest.LogCaptureFixture
) -> None:
    """The node has its own line for that: "entering leader state"."""
    seen.observe("coordinator-1", 6)
    assert seen.changes == 1
    assert landmarks(caplog) == []
