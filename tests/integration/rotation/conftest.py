"""Keys that the networks here share, and an operator for each of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.cluster.conftest import pytest_runtest_makereport  # noqa: F401 - a hook
from tests.integration.cluster.network import Network
from tests.integration.rotation.authority import Operator
from zkp.localcluster.setup import make_keys

MakeOperator = Callable[[Network], Operator]


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with development keys of every circuit; not to be changed."""
    directory = tmp_path_factory.mktemp("keys")
    make_keys(directory, lambda _: None)
    return directory


@pytest.fixture
def operator_of(capsys: pytest.CaptureFixture[str]) -> MakeOperator:
    """Who works a network's authority."""
    return lambda network: Operator(network.layout, network.cluster.profile.members, capsys)
