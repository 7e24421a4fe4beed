"""A cluster that starts again with a long log: one election, however long the entries take to apply."""

import pytest

from tests.simulation.cluster import Cluster
from tests.simulation.node import SLOWEST_APPLY, SimNode


def test_a_long_log_is_applied_within_one_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """The new leader keeps its followers while it applies, and is ready within twice the time that this takes."""
    monkeypatch.setattr(SimNode, "snapshot_entries", 1 << 30)
    cluster = Cluster(seed=1)
    cluster.run_until(lambda: len(cluster.acknowledged) > 200, 30.0)
    term = max(node.raft.term for node in cluster.nodes.values() if node.raft is not None)
    for node in cluster.nodes.values():
        node.apply_seconds = SLOWEST_APPLY
        node.kill(power_loss=False)
    for node in cluster.nodes.values():
        node.start()
    started = cluster.time
    cluster.run_until(lambda: cluster.leader() is not None, 60.0)
    leader = cluster.leader()
    assert leader is not None
    assert cluster.time - started < 2 * SLOWEST_APPLY * len(leader.log._journal or ())
    for node in cluster.nodes.values():
        node.apply_seconds = 0.0
    cluster.run(10.0)
    assert leader.leading_term == term + 1
    cluster.check_end()
