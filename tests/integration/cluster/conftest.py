"""Keys that every network here shares, and what a failed test says about the daemons."""

from collections.abc import Generator
from pathlib import Path

import pytest

from client.local.setup import make_keys
from tests.integration.cluster.network import LIVE


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with development keys of every circuit; not to be changed."""
    directory = tmp_path_factory.mktemp("keys")
    make_keys(directory, lambda _: None)
    return directory


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the last lines of every daemon's log with a test that failed."""
    report = yield
    if report.failed:
        report.sections += [("the daemons' last lines", network.last_lines()) for network in LIVE]
    return report
