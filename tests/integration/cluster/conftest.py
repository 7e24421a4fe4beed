"""A network that several modules share, and the logs beside a failure."""

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.integration.cluster.network import LIVE, Network, running


@pytest.fixture(scope="package")
def calm_network(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Network]:
    """For tests that leave it as it was: the log level of production, and a gateway that may be asked often."""
    settings = {
        "COORDINATOR_TASKS_LEASE": "5s",
        "GATEWAY_RATE_PER_SECOND": "1000",
        "GATEWAY_RATE_BURST": "1000",
    }
    with running(tmp_path_factory.mktemp("calm"), keys, variables=settings) as network:
        yield network


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the last lines of every daemon's log with a test that failed."""
    report = yield
    if report.failed:
        report.sections += [("the daemons' last lines", network.last_lines()) for network in LIVE]
    return report
