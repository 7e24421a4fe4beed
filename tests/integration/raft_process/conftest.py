"""One cluster for all tests of this folder. Keys and reports of failures are those of the other whole networks."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.integration.cluster.conftest import pytest_runtest_makereport
from tests.integration.cluster.network import Network, eventually
from tests.integration.raft_process.coordinators import coordinators, is_voter
from zkp.localcluster.layout import COORDINATORS

__all__ = ["pytest_runtest_makereport"]


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Network]:
    """The cluster."""
    with coordinators(tmp_path_factory.mktemp("raft"), keys) as network:
        yield network


@pytest.fixture
def network(shared: Network) -> Network:
    """The same, with every process running and every coordinator a voter, whatever the test before has done.

    A second node that loses its disk before the first one votes again would leave the cluster without a majority.
    """
    shared.cluster.up()
    shared.agreed()
    for name in COORDINATORS:
        eventually(f"{name} votes", partial(is_voter, shared, name))
    return shared
