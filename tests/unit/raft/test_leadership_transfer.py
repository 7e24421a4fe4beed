"""Leadership goes to another node because an operator says so."""

import pytest

from coordinator.raft import NotLeader, RaftError
from coordinator.raft.engine import FOLLOWER
from tests.unit.raft.lone_node import BASE, ELECTION_TIMEOUT, Clock, LoneNode, leader
from zkp.protocol.v1 import raft_pb2 as pb


def test_leadership_is_handed_to_a_peer_that_has_everything(clock: Clock) -> None:
    """Once all is committed and stored there; meanwhile no command is accepted."""
    node = leader(clock)
    node.propose("a")
    assert node.raft.transfer_leadership("n3") == "n3"
    with pytest.raises(NotLeader) as refused:
        node.propose("b")
    assert refused.value.leader_id is None
    node.acknowledge("n2")
    assert not node.taken("timeout_now")
    node.acknowledge("n3")
    assert [(sent.peer, sent.envelope.timeout_now.term) for sent in node.taken("timeout_now")] == [("n3", 4)]
    node.give("n3", envelope_term=5, request_vote=pb.RequestVote(term=5, last_log_index=3, last_log_term=4))
    assert node.core.role() == FOLLOWER
    assert node.heard == [4, None]
    assert [sent.peer for sent in node.taken("vote")] == ["n3"]
    assert node.results == ["result of a"]


def test_the_most_complete_peer_is_chosen(clock: Clock) -> None:
    """When nobody is named."""
    node = leader(clock)
    node.propose("a")
    node.acknowledge("n2")
    assert node.raft.transfer_leadership(None) == "n2"


@pytest.mark.parametrize(
    ("to", "message"), [("n1", "n1 is already the leader"), ("n9", "n9 is not connected to the leader")]
)
def test_leadership_goes_to_connected_peers_only(clock: Clock, to: str, message: str) -> None:
    """Anything else is refused in words, and the node goes on leading."""
    node = leader(clock)
    with pytest.raises(RaftError, match=message):
        node.raft.transfer_leadership(to)
    node.propose("a")
    node.acknowledge("n2")
    assert node.results == ["result of a"]


def test_leadership_needs_somebody_to_take_it(clock: Clock) -> None:
    """And only who leads can hand it over."""
    node = leader(clock)
    node.raft.link_down("n2")
    node.raft.link_down("n3")
    with pytest.raises(RaftError, match="no other node is connected"):
        node.raft.transfer_leadership(None)
    follower = LoneNode(clock, term=3, entries=(BASE,))
    with pytest.raises(NotLeader):
        follower.raft.transfer_leadership(None)


def test_a_transfer_that_nobody_takes_is_given_up(clock: Clock) -> None:
    """The node accepts commands again after four election timeouts."""
    node = leader(clock)
    node.raft.transfer_leadership("n3")
    for _ in range(12):
        node.elapse(ELECTION_TIMEOUT / 2)
        node.acknowledge("n2")
    assert not node.raft.transferring
    node.propose("a")
    node.acknowledge("n2")
    assert node.results == ["result of a"]


def test_a_follower_campaigns_at_once_when_its_leader_asks(clock: Clock) -> None:
    """Without asking the others first: the leader is still heard. Nobody else can make it do that."""
    node = LoneNode(clock, term=3, entries=(BASE,))
    node.connect("n2", "n3")
    node.append("n2", term=3, after=(1, 0))
    node.give("n3", timeout_now=pb.TimeoutNow(term=3))
    node.elapse(0.02)
    assert not node.taken("request_vote")
    node.give("n2", timeout_now=pb.TimeoutNow(term=3))
    assert {sent.peer for sent in node.taken("request_vote")} == {"n2", "n3"}
    assert node.term == 4
