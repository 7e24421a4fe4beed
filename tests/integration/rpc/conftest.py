"""Certificates for the tests of the gRPC server."""

import pytest

from tests.integration.coordinator.front import Identities


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    """One network for all tests."""
    return Identities(tmp_path_factory.mktemp("identities"))
