"""PostgreSQL fails under load: tasks are accepted and proved meanwhile, and projected afterwards."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from pki.store.store import AuthorityStore, CertificateSpec
from pki.x509.identity import Role
from tests.integration.cluster.network import OUTAGE_S, WAIT_TIMEOUT_S, Network, eventually, running
from tests.integration.cluster.work import Load, check_proofs, check_recorded_once, finished, submission, submit
from tests.integration.postgres import SUPERUSER, Databases, SystemServer, system_binaries
from zkp.localcluster import setup
from zkp.localcluster.layout import COORDINATORS, POSTGRES, TRUST_DOMAIN, Layout


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Network]:
    """A network with the embedded PostgreSQL."""
    with running(tmp_path_factory.mktemp("database"), keys) as network:
        yield network


def database_status(network: Network) -> str:
    """Return the leader's database status."""
    status: str = network.health(network.leader().id)["database"]["status"]
    return status


@pytest.mark.parametrize("failover", [False, True], ids=["one leader", "a new leader meanwhile"])
async def test_postgres_may_be_away(network: Network, keys: Path, failover: bool) -> None:
    """Submissions go on being accepted and proved, /health says degraded with 200, and afterwards the record has
    everything, also what a leader has accepted that is dead by then."""
    seconds = 0.0 if failover else OUTAGE_S
    leader = network.leader()
    async with network.client() as client:
        async with Load(client) as load:
            await load.more(5)
            await asyncio.to_thread(network.cluster.stop, POSTGRES)
            try:
                away_since = len(load.accepted)
                await asyncio.to_thread(
                    eventually, "degraded", lambda: network.health(leader.id)["status"] == "degraded"
                )
                await asyncio.sleep(seconds)
                await load.more(10)
                accepted_meanwhile = load.accepted[away_since:]
                tasks = await finished(client, accepted_meanwhile)  # without Postgres
                degraded = network.health(leader.id)
                listed = [task.id async for task in client.list(limit=5)]
                if failover:
                    await asyncio.to_thread(network.cluster.kill, leader.id)
                    await asyncio.to_thread(network.cluster.wait_for_leader, WAIT_TIMEOUT_S, other_than=leader)
                    await load.more(5)
            finally:
                await asyncio.to_thread(network.cluster.up)
        everything = await finished(client, load.accepted)

    assert (degraded["code"], degraded["status"], degraded["database"]["status"]) == (200, "degraded", "degraded")
    assert degraded["database"]["backlog"] > 0
    assert degraded["database"]["error"]
    assert len(listed) == 5
    check_proofs(keys, tasks)
    check_recorded_once(network, everything)
    eventually("health", lambda: network.health(network.leader().id)["status"] == "ok")
    assert "record not reached" in network.log(leader.id)


@pytest.fixture(scope="module")
def over_tls(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Network]:
    """A network with Debian's PostgreSQL, over TCP and mutual TLS."""
    if system_binaries() is None:
        pytest.skip("needs Debian's PostgreSQL: apt-get install postgresql")
    layout = Layout(tmp_path_factory.mktemp("over-tls"))
    setup.issue(layout, 2)
    order = CertificateSpec("postgres", Role.POSTGRES, ("127.0.0.1", "localhost"))
    (issued,) = AuthorityStore.open(layout.pki).issue([order], layout.identities, now=datetime.now(UTC), by="a test")
    server = SystemServer(issued.certificate_pem, issued.key_pem, issued.ca_pem, TRUST_DOMAIN)
    try:
        name = Databases(server).create()
        administrator = server.parameters(name)
        with psycopg.connect(**administrator, autocommit=True) as connection:  # type: ignore[arg-type]  # all are text
            connection.execute("CREATE ROLE zkp LOGIN")
            connection.execute(f"ALTER DATABASE {name} OWNER TO zkp".encode())
        reached = server.tcp_parameters(name)
        url = f"postgresql://zkp@{reached['host']}:{reached['port']}/{name}"
        identity = layout.identity("coordinator-1")
        variables = {
            "COORDINATOR_DATABASE_SSL_ROOT_CERT": str(identity / "ca.pem"),
            "COORDINATOR_DATABASE_SSL_CERT": str(identity / "certificate.pem"),
            "COORDINATOR_DATABASE_SSL_KEY": str(identity / "key.pem"),
        }
        record = f"postgresql://{SUPERUSER}@/{name}?host={administrator['host']}&port={administrator['port']}"
        with running(layout.root, keys, database_url=url, record_url=record, variables=variables) as network:
            yield network
    finally:
        server.close()


async def test_the_record_is_kept_over_verified_tls(over_tls: Network, keys: Path) -> None:
    """Debian's Postgres with verify-full and client certificates: same tasks, once each, also after a failover; and
    every session of a coordinator is TLS 1.3."""
    network, before = over_tls, over_tls.leader()
    async with network.client() as client:
        ids = await submit(client, *(submission() for _ in range(10)))
        await finished(client, ids[:2])
        await asyncio.to_thread(network.cluster.kill, before.id)
        tasks = await finished(client, ids)
    sessions = network.rows(
        "SELECT application_name, version, client_dn FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
        " WHERE usename = 'zkp'"
    )

    check_proofs(keys, tasks)
    check_recorded_once(network, tasks)
    programs = {session["application_name"].split()[0] for session in sessions}
    assert programs
    assert programs <= set(COORDINATORS) - {before.id}
    assert {session["version"] for session in sessions} == {"TLSv1.3"}
    assert {session["client_dn"] for session in sessions} == {f"/O={TRUST_DOMAIN}/OU=coordinator/CN=coordinator-1"}
