"""Reaching PostgreSQL over a network: verify-full, with a client certificate, or not at all."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from coordinator.config.database import DatabaseSettings
from coordinator.store import Database, ProjectionReader, ProjectionUnavailable
from pki.ca.authority import Authority
from pki.files import TlsFiles
from pki.x509.identity import Role
from tests.integration.postgres import SUPERUSER, Databases, SystemServer
from tests.integration.store.conftest import TRUST_DOMAIN
from tests.integration.store.scenario import Node
from tests.unit.store.histories import SETTING, one_completed


def now() -> datetime:
    """This moment: the authority is made when the first test asks, later than this module is read."""
    return datetime.now(UTC)


@pytest.fixture
def database_name(system_postgres: SystemServer) -> Iterator[str]:
    """A database that belongs to the role `zkp`, as an operator would make it."""
    databases = Databases(system_postgres)
    name = databases.create()
    keywords: dict[str, Any] = dict(system_postgres.parameters(name))
    with psycopg.connect(autocommit=True, **keywords) as connection:
        if connection.execute("SELECT FROM pg_roles WHERE rolname = 'zkp'").fetchone() is None:
            connection.execute("CREATE ROLE zkp LOGIN")
        connection.execute(f"ALTER DATABASE {name} OWNER TO zkp".encode())
    yield name
    databases.drop(name)


@pytest.fixture
def mine(authority: Authority, tmp_path: Path) -> TlsFiles:
    """A coordinator's identity."""
    issued = authority.issue("coordinator-1", Role.COORDINATOR, ["127.0.0.1"], now=now())
    return issued.write(tmp_path)


def settings(server: SystemServer, name: str, files: TlsFiles) -> DatabaseSettings:
    """The coordinator's own settings for that server."""
    parameters = server.tcp_parameters(name)
    return DatabaseSettings(
        host=parameters["host"],
        port=int(parameters["port"]),
        name=name,
        user=parameters["user"],
        ssl_root_cert=files.ca,
        ssl_cert=files.certificate,
        ssl_key=files.key,
    )


async def test_a_coordinator_keeps_its_record_over_mutual_tls(
    system_postgres: SystemServer, database_name: str, mine: TlsFiles
) -> None:
    """As the owner of its database alone, and in TLS 1.3."""
    database = Database(settings(system_postgres, database_name, mine).parameters(), application="coordinator-1")
    node = Node(database)
    node.apply([*SETTING, *one_completed("task-1")])
    async with node.leading():
        await node.recorded()
        async with await database.connect_reader() as connection:
            cursor = await connection.execute(
                "SELECT version, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
            )
            assert await cursor.fetchone() == {
                "version": "TLSv1.3",
                "client_dn": f"/O={TRUST_DOMAIN}/OU=coordinator/CN=coordinator-1",
            }
    record = ProjectionReader(database, 1)
    assert (await record.summary()).accepted_once == 1
    await record.close()


async def test_a_renewed_certificate_is_shown_to_the_server_from_the_next_connection_on(
    system_postgres: SystemServer, database_name: str, mine: TlsFiles, authority: Authority, tmp_path: Path
) -> None:
    """The files are read for each connection: nothing has to be restarted when they change."""
    database = Database(settings(system_postgres, database_name, mine).parameters(), application="coordinator-1")

    async def shown() -> int:
        async with await database.connect_reader() as connection:
            cursor = await connection.execute("SELECT client_serial FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            row = await cursor.fetchone()
        assert row is not None
        return int(row["client_serial"])

    before = await shown()
    renewed = authority.issue("coordinator-1", Role.COORDINATOR, ["127.0.0.1"], now=now())
    renewed.write(tmp_path, replace=True)
    assert before != await shown() == renewed.certificate.serial_number


async def _refusal(parameters: dict[str, str]) -> str:
    """Why neither a writer nor a reader gets through."""
    database = Database(parameters, application="test")
    with pytest.raises(psycopg.OperationalError):
        await (await database.connect_writer()).close()
    record = ProjectionReader(database, 1)
    with pytest.raises(ProjectionUnavailable) as refused:
        await record.get_task("task-1")
    return str(refused.value)


async def test_a_server_of_another_authority_is_refused(
    system_postgres: SystemServer, database_name: str, mine: TlsFiles, tmp_path: Path
) -> None:
    """The coordinator trusts its own roots only."""
    other = Authority.create(TRUST_DOMAIN, now=now()).issue("x", Role.COORDINATOR, ["127.0.0.1"], now=now())
    parameters = settings(system_postgres, database_name, mine).parameters()

    refusal = await _refusal({**parameters, "sslrootcert": str(other.write(tmp_path / "other").ca)})

    assert "certificate verify failed" in refusal


async def test_a_server_with_another_name_is_refused(
    system_postgres: SystemServer, database_name: str, mine: TlsFiles
) -> None:
    """A good certificate is not enough: it must be the one of the host that was dialled."""
    parameters = settings(system_postgres, database_name, mine).parameters()

    refusal = await _refusal({**parameters, "host": "db.zkp.test", "hostaddr": "127.0.0.1"})

    assert 'does not match host name "db.zkp.test"' in refusal


async def test_a_client_without_a_certificate_is_refused(
    system_postgres: SystemServer, database_name: str, mine: TlsFiles
) -> None:
    """By the server."""
    parameters = settings(system_postgres, database_name, mine).parameters()
    del parameters["sslcert"], parameters["sslkey"]

    refusal = await _refusal({**parameters, "sslcertmode": "disable"})

    assert "requires a valid client certificate" in refusal


async def test_plain_text_is_refused(system_postgres: SystemServer, database_name: str) -> None:
    """The server takes nothing but TLS over TCP; the coordinator's settings would not have let it get this far."""
    refusal = await _refusal({**system_postgres.tcp_parameters(database_name), "sslmode": "disable"})

    assert "no encryption" in refusal


@pytest.mark.parametrize("role", [Role.WORKER, Role.CLIENT, Role.ADMIN])
async def test_only_a_coordinator_s_certificate_opens_the_record(
    system_postgres: SystemServer, database_name: str, authority: Authority, tmp_path: Path, role: Role
) -> None:
    """A worker that is called like a coordinator is still a worker."""
    files = authority.issue("coordinator-1", role, now=now()).write(tmp_path)

    refusal = await _refusal(settings(system_postgres, database_name, files).parameters())

    assert "certificate authentication failed" in refusal


async def test_a_coordinator_of_another_authority_is_refused(
    system_postgres: SystemServer, database_name: str, mine: TlsFiles, tmp_path: Path
) -> None:
    """With the same names, and a chain that the server does not know."""
    other = Authority.create(TRUST_DOMAIN, now=now()).issue(
        "coordinator-1", Role.COORDINATOR, ["127.0.0.1"], now=now()
    )
    files = other.write(tmp_path / "other")
    parameters = settings(system_postgres, database_name, files).parameters()

    refusal = await _refusal({**parameters, "sslrootcert": str(mine.ca)})

    assert "unknown ca" in refusal


async def test_an_expired_certificate_is_refused(
    system_postgres: SystemServer, database_name: str, tmp_path: Path, authority: Authority
) -> None:
    """By the server, at the handshake."""
    then, life = now() - timedelta(minutes=2), timedelta(minutes=1)
    earlier = authority.issue("coordinator-1", Role.COORDINATOR, ["127.0.0.1"], now=then, life=life)
    files = earlier.write(tmp_path)

    refusal = await _refusal(settings(system_postgres, database_name, files).parameters())

    assert "certificate expired" in refusal


async def test_the_superuser_cannot_come_over_the_network(
    system_postgres: SystemServer, database_name: str, mine: TlsFiles
) -> None:
    """A coordinator's certificate is good for the coordinators' role."""
    parameters = settings(system_postgres, database_name, mine).parameters()

    assert "no pg_hba.conf entry" in await _refusal({**parameters, "user": SUPERUSER})
