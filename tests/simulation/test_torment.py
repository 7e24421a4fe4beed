"""Clusters under random faults keep every promise that they made."""

import logging
from collections.abc import Iterator

import pytest

from coordinator.raft import engine
from tests.simulation.cluster import Cluster
from tests.simulation.faults import torment


@pytest.fixture(autouse=True)
def _quiet_and_restore_clock(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Thousands of elections are no news here; other tests get the real clock back."""
    caplog.set_level(logging.CRITICAL + 1)
    real = engine.engine.monotonicTime
    yield
    engine.use_clock(real)


@pytest.mark.parametrize("seed", range(200))
def test_three_nodes_keep_every_acknowledged_task(seed: int) -> None:
    """Twelve faults in three nodes: no task is lost, no entry differs, no term has two leaders."""
    cluster = Cluster(seed)
    torment(cluster, faults=12)
    assert cluster.acknowledged


@pytest.mark.parametrize("seed", range(1_000, 1_040))
def test_five_nodes_keep_every_acknowledged_task(seed: int) -> None:
    """The same with five nodes, where two may fail at once."""
    cluster = Cluster(seed, size=5)
    torment(cluster, faults=12)
    assert cluster.acknowledged
