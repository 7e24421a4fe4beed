"""Whom a node names as the leader: what callers are told, and what decides whether it can serve."""

from tests.unit.raft.lone_node import ELECTION_TIMEOUT, NO_OP, Clock, LoneNode, command

LOG = ((NO_OP, 1, 0), (NO_OP, 2, 3), (command("a"), 3, 3))


def follower(clock: Clock) -> LoneNode:
    """A node that has just heard from its leader, n2."""
    node = LoneNode(clock, term=3, entries=LOG)
    node.connect("n2", "n3")
    node.append("n2", term=3, after=(3, 3))
    return node


def test_a_leader_that_is_heard_is_named(clock: Clock) -> None:
    """Also while it is a little late."""
    node = follower(clock)
    assert node.raft.leader_id == "n2"
    clock.time += ELECTION_TIMEOUT

    assert node.raft.status().leader_id == "n2"


def test_a_leader_that_has_fallen_silent_is_named_no_more(clock: Clock) -> None:
    """Where nobody else can be elected the dead leader would otherwise be named for ever."""
    node = follower(clock)
    node.elapse(2.1 * ELECTION_TIMEOUT)

    assert node.raft.leader_id is None
    node.append("n2", term=3, after=(3, 3))
    assert node.raft.leader_id == "n2"


def test_a_leader_whose_connection_closed_is_named_no_more(clock: Clock) -> None:
    """Nobody is sent to a process that has just died."""
    node = follower(clock)
    node.raft.link_down("n2")

    assert node.raft.leader_id is None
