"""A network shared by several modules, and the daemons' logs with each failure."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.integration.cluster.network import LIVE, Network, running


@pytest.fixture(scope="package")
def calm_network(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Network]:
    """A network for tests that leave it unchanged: production log level, high gateway rate limits."""
    settings = {
        "COORDINATOR_TASKS_LEASE": "5s",
        "GATEWAY_RATE_PER_SECOND": "1000",
        "GATEWAY_RATE_BURST": "1000",
    }
    with running(tmp_path_factory.mktemp("calm"), keys, variables=settings) as network:
        yield network


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the last lines of every daemon's log to a failure."""
    report = yield
    if report.failed:
        report.sections += [("the daemons' last lines", network.last_lines()) for network in LIVE]
    return report
