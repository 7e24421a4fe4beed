"""The logs beside a failure. Without Prometheus these tests are skipped."""

import shutil

import pytest

from tests.integration.cluster.conftest import pytest_runtest_makereport  # noqa: F401 - a hook


@pytest.fixture(scope="session", autouse=True)
def prometheus_is_installed() -> None:
    """Skip with the reason where it is not."""
    if shutil.which("prometheus") is None:
        pytest.skip("Prometheus is not installed: apt install --no-install-recommends prometheus")
