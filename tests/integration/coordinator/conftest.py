"""One network's certificates, and a front that leads."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.coordinator.front import Front, Identities


@pytest.fixture(scope="session")
def identities(tmp_path_factory: pytest.TempPathFactory) -> Identities:
    return Identities(tmp_path_factory.mktemp("identities"))


@pytest.fixture
async def front(identities: Identities) -> AsyncIterator[Front]:
    """Started; does not lead yet."""
    front = Front(identities)
    await front.start()
    yield front
    await front.stop()


@pytest.fixture
async def leader(front: Front) -> Front:
    """Started, and leading."""
    await front.lead()
    return front
