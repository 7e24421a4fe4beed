"""Authentication of coordinators and the errors for other servers, over real sockets."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from pki.ca.authority import Authority
from pki.tls.material import TlsMaterial
from pki.x509.identity import Role
from tests.integration.fakes.coordinators import HOST, WAIT_S, YESTERDAY, Cluster, Network
from tests.unit.pki.forgery import foreign_leaf
from zkp.client.dial import TlsDialer
from zkp.client.errors import NoLeader, Untrusted
from zkp.client.failures import DialFailed
from zkp.client.leader import LeaderConnection
from zkp.client.tasks import TaskClient
from zkp.protocol.v1 import coordinator_pb2 as pb


@pytest.fixture
def network(tmp_path: Path) -> Network:
    """A network with its own authority."""
    return Network(tmp_path)


@pytest.fixture
async def cluster(network: Network) -> AsyncIterator[Cluster]:
    """One coordinator, the leader."""
    async with Cluster(network, 1) as cluster:
        yield cluster


@asynccontextmanager
async def serving(by: TlsMaterial | grpc.ServerCredentials) -> AsyncIterator[str]:
    """Run a gRPC server with these credentials and no services; yield its address."""
    server = grpc.aio.server()
    credentials = by.grpc_server_credentials() if isinstance(by, TlsMaterial) else by
    port = server.add_secure_port(f"{HOST}:0", credentials)
    await server.start()
    yield f"{HOST}:{port}"
    await server.stop(0)


@asynccontextmanager
async def listening(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Run a TCP server with this handler; yield its address."""
    talks: set[asyncio.Task[None]] = set()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        await talk(reader, writer)

    server = await asyncio.start_server(note, HOST, 0)
    yield f"{HOST}:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()
    await asyncio.wait(talks, timeout=WAIT_S)


async def reason(material: TlsMaterial, address: str) -> str:
    """Return the reason why a channel to the address cannot be opened."""
    with pytest.raises(DialFailed) as caught:
        await TlsDialer(material).dial(address, 2.0)
    return caught.value.reason


async def test_a_coordinator_is_accepted(network: Network, cluster: Cluster) -> None:
    """The channel is usable for calls."""
    line = await TlsDialer(network.material("client-1", Role.CLIENT)).dial(cluster.addresses[0], 2.0)
    cluster.submit(pb.Submission(task_id="t-1"))
    task = await line.call(lambda stubs: stubs.tasks.GetTask, pb.GetTaskRequest(task_id="t-1"), timeout=5)
    assert task.id == "t-1"
    await line.close()


async def test_a_worker_is_no_coordinator(network: Network) -> None:
    """A valid certificate of another role is rejected."""
    async with serving(network.material("worker-1", Role.WORKER)) as address:
        why = await reason(network.material("client-1", Role.CLIENT), address)
    assert why == "spiffe://zkp.local/worker/worker-1 is not a coordinator"


async def test_a_coordinator_of_another_trust_domain_is_refused(network: Network) -> None:
    """The trust domain in the URI is checked in addition to gRPC's checks of chain and address."""
    bad = foreign_leaf(network.authority, datetime.now(UTC), Role.COORDINATOR, [HOST])
    pair = (bad.key_pem, bad.certificate_pem)
    async with serving(grpc.ssl_server_credentials([pair], bad.ca_pem, require_client_auth=True)) as address:
        why = await reason(network.material("client-1", Role.CLIENT), address)
    assert why == "server certificate rejected: identity of another trust domain"


async def test_another_authority_is_not_trusted(tmp_path: Path, cluster: Cluster) -> None:
    """A client of another network rejects the coordinators with a reason, before its deadline."""
    stranger = Network(tmp_path / "elsewhere")
    async with LeaderConnection(cluster.addresses, stranger.material("client-1", Role.CLIENT)) as connection:
        with pytest.raises(Untrusted, match=r"server certificate rejected: .*certificate"):
            await TaskClient(connection).get("t-1")


async def test_a_client_certificate_rejected_by_the_server_is_reported(network: Network, cluster: Cluster) -> None:
    """If the server rejects the client's certificate, the error says so."""
    now = datetime.now(UTC)
    issued = Authority.create("zkp.local", now=now).issue("client-1", Role.CLIENT, now=now)
    ours = network.issue("client-2", Role.CLIENT)
    files = issued.write(network.directory)
    shutil.copy(ours.ca, files.ca)
    with_own_root = files.ca.read_bytes() + issued.ca_pem  # our side must accept its own chain
    files.ca.write_bytes(with_own_root)
    assert "may have rejected the client certificate" in await reason(TlsMaterial.load(files), cluster.addresses[0])


async def test_a_certificate_for_another_host_is_refused(network: Network) -> None:
    """The certificate must contain the address."""
    now = datetime.now(UTC)
    issued = network.authority.issue("coordinator-9", Role.COORDINATOR, ["localhost"], now=now)
    async with serving(TlsMaterial.load(issued.write(network.directory))) as address:
        assert "IP address mismatch" in await reason(network.material("client-1", Role.CLIENT), address)


async def test_an_expired_certificate_is_refused(network: Network) -> None:
    """An expired certificate of a coordinator is rejected."""
    issued = network.authority.issue(
        "coordinator-9", Role.COORDINATOR, [HOST], now=YESTERDAY, life=timedelta(hours=1)
    )
    material = TlsMaterial.load(issued.write(network.directory), clock=lambda: YESTERDAY)
    async with serving(material) as address:
        assert "expired" in await reason(network.material("client-1", Role.CLIENT), address)


async def test_a_port_without_tls_is_named_as_such(network: Network) -> None:
    """A server without TLS is rejected with the reason."""

    async def babble(_: Any, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with listening(babble) as address:
        assert "no TLS 1.3 connection" in await reason(network.material("client-1", Role.CLIENT), address)


async def test_a_silent_port_is_given_up(network: Network) -> None:
    """A server that sends nothing is abandoned after the dial timeout."""

    async def keep_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with listening(keep_silent) as address:
        with pytest.raises(DialFailed, match=r"no answer within 0\.2 s"):
            await TlsDialer(network.material("client-1", Role.CLIENT)).dial(address, 0.2)


async def test_an_unreachable_address_is_reported(network: Network, cluster: Cluster) -> None:
    """The error names an unreachable coordinator with the reason."""
    await cluster.nodes[0].stop()
    address = cluster.addresses[0]
    async with LeaderConnection((address,), network.material("client-1", Role.CLIENT)) as connection:
        with pytest.raises(NoLeader, match=f"{address}: connection refused"):
            await TaskClient(connection, timeout=0.3).get("t-1")


async def test_reloaded_credentials_are_used_for_new_calls(network: Network, cluster: Cluster) -> None:
    """After a reload the next call uses the new certificate."""
    files = network.issue("client-1", Role.CLIENT)
    material = TlsMaterial.load(files)
    seen: list[bytes] = []
    admit = cluster.nodes[0].admit

    async def note(method: str, context: Any) -> str:
        seen.append(context.auth_context()["x509_pem_cert"][0])
        return await admit(method, context)

    cluster.nodes[0].admit = note  # type: ignore[method-assign]
    cluster.submit(pb.Submission(task_id="t-1", circuit="addition"))
    async with LeaderConnection(cluster.addresses, material) as connection:
        client = TaskClient(connection)
        await client.get("t-1")
        await client.get("t-1")
        network.issue("client-1", Role.CLIENT, replace=True)
        assert material.reload()
        await client.get("t-1")
    assert seen[0] == seen[1] != seen[2]
