"""The fleet that all tests of the deployment share, deployed once; and the journals beside a failure.

Every test finds the network well and leaves it so, so that they can be run in any order, or alone.
"""

import os
import shutil
from collections.abc import Generator, Iterator

import pytest

from tests.hosts.commands import require
from tests.hosts.deployment import HOSTS, Deployment
from tests.hosts.errors import HostsError
from tests.hosts.fleet import Fleet
from tests.hosts.playbook import Outcome
from tests.integration.cluster.conftest import pytest_runtest_makereport as _with_local_logs
from tests.integration.conftest import keys

__all__ = ["keys"]

UMASKS = {"host-1": "077", "host-3": "027"}
"""What CIS and stricter rules ask, on the database host and the monitoring host; the others are as Debian is."""
SPARE = "host-4"
"""A host of the fleet that is in no inventory at first."""
_DEPLOYED: list[Deployment] = []


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "slow: takes minutes and finds little; `make hosts-test` runs it, CI does not")


@pytest.fixture(scope="session")
def undeployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Four bare hosts; three are in the inventory. Fails with one line where hosts cannot be booted."""
    name = f"test-{os.getpid()}"
    try:
        require()
        fleet = Fleet.create(name, [*HOSTS, SPARE], umasks=UMASKS)
    except HostsError as error:
        pytest.fail(str(error), pytrace=False)
    directory = tmp_path_factory.mktemp("controller")
    try:
        yield Deployment(fleet, directory)
    finally:
        fleet.destroy()
        shutil.rmtree(directory / "controller" / "releases", ignore_errors=True)  # 60 MB each


@pytest.fixture(scope="session")
def dry_run(undeployed: Deployment) -> Outcome:
    """Of site.yml with `--check --diff`, on bare hosts."""
    return undeployed.play("site.yml", "--check", "--diff").demand_success()


@pytest.fixture(scope="session")
def first_run(undeployed: Deployment, dry_run: Outcome) -> Outcome:
    """Of site.yml, on bare hosts, with one command."""
    assert dry_run.status == 0
    _DEPLOYED.append(undeployed)
    return undeployed.play().demand_success()


@pytest.fixture(scope="session")
def first_traces(undeployed: Deployment, first_run: Outcome) -> dict[str, str]:
    """Host → what the first run has made, before any test did anything with it."""
    assert first_run.status == 0
    return undeployed.traces()


@pytest.fixture
def network(undeployed: Deployment, first_traces: dict[str, str]) -> Iterator[Deployment]:
    """The network that the first run has made, well before the test and well after it."""
    assert first_traces
    undeployed.wait_until_well()
    yield undeployed
    undeployed.wait_until_well()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the journals of our units with a test that failed."""
    report = yield from _with_local_logs()
    if report.failed:
        for deployment in _DEPLOYED:
            report.sections += deployment.journals(60)
    return report
