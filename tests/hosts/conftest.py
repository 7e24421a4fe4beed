"""Keys and reports of failures are those of the other tests that run whole networks."""

from tests.integration.cluster.conftest import keys, pytest_runtest_makereport

__all__ = ["keys", "pytest_runtest_makereport"]
