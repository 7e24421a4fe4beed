"""Keys that the networks here share, and the logs beside a failure. Without Prometheus these tests are skipped."""

import shutil
from pathlib import Path

import pytest

from tests.integration.cluster.conftest import pytest_runtest_makereport  # noqa: F401 - a hook
from zkp.localcluster.setup import make_keys


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with development keys of every circuit; not to be changed."""
    directory = tmp_path_factory.mktemp("keys")
    make_keys(directory, lambda _: None)
    return directory


@pytest.fixture(scope="session", autouse=True)
def prometheus_is_installed() -> None:
    """Skip with the reason where it is not."""
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed: apt install --no-install-recommends prometheus")
