"""One cluster for all tests of this folder. Keys and reports of failures are those of the other whole networks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cluster.conftest import keys, pytest_runtest_makereport
from tests.integration.cluster.network import Network
from tests.integration.raft_process.coordinators import coordinators

__all__ = ["keys", "pytest_runtest_makereport"]


@pytest.fixture(scope="package")
def shared(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Network]:
    """The cluster."""
    with coordinators(tmp_path_factory.mktemp("raft"), keys) as network:
        yield network


@pytest.fixture
def network(shared: Network) -> Network:
    """The same, with every process running again, whatever the test before has done."""
    shared.cluster.up()
    shared.agreed()
    return shared
