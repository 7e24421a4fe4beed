"""Shared proving keys, and an operator for each network."""

from collections.abc import Callable

import pytest

from tests.integration.cluster.conftest import pytest_runtest_makereport  # noqa: F401 - a hook
from tests.integration.cluster.network import Network
from tests.integration.rotation.authority import Operator

MakeOperator = Callable[[Network], Operator]


@pytest.fixture
def operator_of(capsys: pytest.CaptureFixture[str]) -> MakeOperator:
    """Who works a network's authority."""
    return lambda network: Operator(network.layout, network.cluster.profile.members, capsys)
