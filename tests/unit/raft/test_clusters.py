"""Three nodes in virtual time, without faults but the one that each test is about."""

import pytest

from coordinator.raft.elections import Elections
from coordinator.raft.node import RaftNode
from coordinator.raft.storage.checksummed_json import dump
from tests.simulation.cluster import ELECTION_TIMEOUT, Cluster, SimNode, Violation


def elected(seed: int = 1) -> tuple[Cluster, SimNode, list[SimNode]]:
    """A cluster at work, its leader, and the others."""
    cluster = Cluster(seed)
    cluster.run_until(lambda: cluster.leader() is not None and len(cluster.acknowledged) > 5, 10.0)
    leader = cluster.leader()
    assert leader is not None
    return cluster, leader, [node for node in cluster.nodes.values() if node is not leader]


def cut_off(cluster: Cluster, node: SimNode) -> None:
    for other in cluster.names:
        if other != node.name:
            cluster.network.block(node.name, other)
            cluster.network.block(other, node.name)


def term_of(node: SimNode) -> int:
    assert node.raft is not None
    return node.raft.term


def agree(cluster: Cluster) -> bool:
    """Everybody has applied the same, and tasks are accepted."""
    applied = {node.raft.status().last_applied if node.raft else -1 for node in cluster.nodes.values()}
    return len(applied) == 1 and cluster.leader() is not None


@pytest.mark.parametrize("asks_first", [True, False])
def test_a_follower_back_from_a_partition_does_not_depose_the_leader(
    monkeypatch: pytest.MonkeyPatch, asks_first: bool
) -> None:
    """It was away for 40 election timeouts. Without the pre-vote it campaigns alone, and its term grows."""
    if not asks_first:
        monkeypatch.setattr(Elections, "campaign_if_due", lambda _elections, _core, _peers: None)
    cluster, leader, (away, _) = elected()
    term = term_of(leader)
    cut_off(cluster, away)
    if not asks_first:
        with pytest.raises(Violation, match="though it heard no majority"):
            cluster.run(10.0)
        return
    cluster.run(10.0)
    assert term_of(away) == term
    cluster.network.heal()
    cluster.run(2.0)
    cluster.run_until(lambda: agree(cluster), 5.0)
    assert term_of(leader) == term


@pytest.mark.parametrize("tells", [True, False])
def test_a_node_with_a_higher_term_is_not_left_out_for_ever(monkeypatch: pytest.MonkeyPatch, tells: bool) -> None:
    """It campaigned just before it was cut off. If it stays silent towards the older leader, as the bare engine
    does, neither ever takes notice of the other again."""
    if not tells:
        monkeypatch.setattr(RaftNode, "_show_term", lambda _node, _core, _peer: None)
    cluster, leader, (away, _) = elected()
    away.kill(power_loss=False)
    away.disk.replace("vote", dump({"term": term_of(leader) + 3, "voted_for": away.name}))
    away.start()

    def together() -> bool:
        return agree(cluster) and len({term_of(node) for node in cluster.nodes.values()}) == 1

    if tells:
        cluster.run_until(together, 5.0)
    else:
        with pytest.raises(Violation, match="no progress"):
            cluster.run_until(together, 5.0)


def test_a_dead_leader_is_replaced_and_nothing_accepted_is_lost() -> None:
    """Its connections close, so the others need not wait for silence; it comes back as a follower."""
    cluster, leader, _ = elected()
    before = len(cluster.acknowledged)
    leader.kill(power_loss=True)
    cluster.run_until(
        lambda: cluster.leader() is not None and len(cluster.acknowledged) > before, 4 * ELECTION_TIMEOUT
    )
    leader.start()
    cluster.check_end()
    assert cluster.leader() is not leader


def test_a_leader_that_is_cut_off_stops_leading_and_loses_nothing() -> None:
    """Another one leads the majority meanwhile; what the old one had on its way is not accepted twice."""
    cluster, leader, _ = elected()
    cut_off(cluster, leader)
    cluster.run_until(lambda: leader.raft is not None and leader.raft.leading_term is None, 2 * ELECTION_TIMEOUT)
    cluster.run_until(lambda: cluster.leader() is not None, 5.0)
    assert cluster.leader() is not leader
    cluster.check_end()


def test_leadership_handed_over_is_taken_in_the_next_term() -> None:
    """By the node that was named, with one election."""
    cluster, leader, (heir, _) = elected()
    term = term_of(leader)
    assert leader.raft is not None
    leader.raft.transfer_leadership(heir.name)
    cluster.run_until(lambda: cluster.leader() is heir, 2.0)
    assert term_of(heir) == term + 1
    cluster.check_end()


def test_a_wiped_node_is_caught_up_and_votes_again() -> None:
    """Also one that is configured to found the cluster: it joins the one that is there."""
    cluster, _, _ = elected()
    founder = cluster.nodes["n1"]
    assert founder.raft is not None
    cluster_id = founder.raft._membership.cluster_id
    founder.kill(power_loss=False)
    founder.wipe()
    founder.start()
    cluster.run_until(
        lambda: founder.raft is not None and founder.raft.status().membership.startswith("member"), 10.0
    )
    assert founder.raft._membership.cluster_id == cluster_id
    cluster.check_end()
