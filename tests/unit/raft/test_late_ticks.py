"""A node that did not run for a while cannot know what was sent to it: that is not silence."""

import pytest

from coordinator.raft.engine import FOLLOWER, LEADER
from tests.unit.raft.lone_node import BASE, ELECTION_TIMEOUT, HEARTBEAT, Clock, LoneNode, leader
from zkp.protocol.v1 import raft_pb2 as pb

LATE = 3 * ELECTION_TIMEOUT


def follower(clock: Clock) -> LoneNode:
    """It follows n2 in term 3, and has just heard it."""
    node = LoneNode(clock, term=3, entries=(BASE,))
    node.connect("n2", "n3")
    node.append("n2", term=3, after=(1, 0), commit=1)
    return node


def test_a_leader_that_did_not_run_reads_its_answers_before_it_steps_down(clock: Clock) -> None:
    """The tick comes first, the answers are still in the sockets."""
    node = leader(clock)
    clock.time += LATE
    node.raft.tick()
    assert node.core.role() == LEADER
    for peer in ("n2", "n3"):
        node.acknowledge(peer)
    node.elapse(ELECTION_TIMEOUT - HEARTBEAT)
    assert node.raft.leading_term == 4


def test_a_leader_that_hears_nobody_after_it_did_not_run_steps_down(clock: Clock) -> None:
    """Within an election timeout of running."""
    node = leader(clock)
    clock.time += LATE
    node.elapse(ELECTION_TIMEOUT)
    assert node.core.role() == FOLLOWER
    assert node.heard[-1] is None


def test_a_follower_that_did_not_run_does_not_campaign(clock: Clock) -> None:
    """Two that were kept waiting by one busy machine would encourage each other against a leader that is there."""
    node = follower(clock)
    clock.time += LATE
    node.raft.tick()
    node.append("n2", term=3, after=(1, 0), commit=1)
    node.elapse(ELECTION_TIMEOUT - HEARTBEAT)
    assert not node.taken("pre_vote_request")


def test_a_follower_that_did_not_run_encourages_nobody(clock: Clock) -> None:
    """The question may come before the heartbeats that were sent earlier."""
    node = follower(clock)
    clock.time += LATE
    node.give("n3", pre_vote_request=pb.PreVoteRequest(term=4, last_log_index=1, last_log_term=0))
    (answer,) = node.taken("pre_vote_answer")
    assert not answer.envelope.pre_vote_answer.granted


def test_a_follower_of_a_dead_leader_campaigns_after_it_did_not_run(clock: Clock) -> None:
    """What is left of the timeout begins when it runs again, and is no longer than before."""
    node = follower(clock)
    clock.time += LATE
    node.elapse(2 * ELECTION_TIMEOUT)
    assert node.taken("pre_vote_request")


@pytest.mark.parametrize("first", ["tick", "frame"])
def test_what_is_heard_after_a_pause_is_not_dated_forward(clock: Clock, first: str) -> None:
    """A leader that answers and then dies is missed as soon as any other."""
    node = leader(clock)
    clock.time += LATE
    if first == "tick":
        node.raft.tick()
    node.acknowledge("n2")
    assert node.core.last_response("n2") <= clock.time
    node.elapse(ELECTION_TIMEOUT + 0.02)
    assert node.core.role() == FOLLOWER
