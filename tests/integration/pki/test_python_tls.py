"""Clients and servers that OpenSSL accepts and refuses, over sockets."""

import ssl
from pathlib import Path

import pytest

from pki.tls.material import TlsMaterial
from pki.x509.identity import Role
from tests.integration.pki.endpoints import (
    BAD_CLIENTS,
    BAD_SERVERS,
    HONEST,
    NOW,
    hostile_context,
    material,
    refusal,
    tls_connection,
    tls_greeting,
    tls_listener,
)
from tests.unit.pki.forgery import identity


@pytest.fixture
def server(tmp_path: Path) -> TlsMaterial:
    """A coordinator."""
    return material(tmp_path, "coordinator-1", Role.COORDINATOR)


@pytest.fixture
def client(tmp_path: Path) -> TlsMaterial:
    """A worker."""
    return material(tmp_path, "worker-1", Role.WORKER)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_members_are_let_in_by_name(server: TlsMaterial, client: TlsMaterial, host: str) -> None:
    """A worker that dials a coordinator by address or name is known as that worker."""
    async with tls_listener(server.server_context()) as listener:
        assert await tls_greeting(listener.port, client.client_context(), host) == str(identity())
    assert listener.admitted == [identity()]


async def test_a_hostile_context_is_refused_for_its_certificate_only(server: TlsMaterial, tmp_path: Path) -> None:
    """The contexts that the refusals below use let a good certificate through."""
    good = HONEST.issue("worker-1", Role.WORKER, now=NOW)
    context = hostile_context(ssl.PROTOCOL_TLS_CLIENT, good, tmp_path / "good")
    async with tls_listener(server.server_context()) as listener:
        assert await tls_greeting(listener.port, context) == str(identity())


@pytest.mark.parametrize("case", BAD_CLIENTS)
@pytest.mark.parametrize("require_client", [True, False])
async def test_bad_clients_are_refused(server: TlsMaterial, tmp_path: Path, case: str, require_client: bool) -> None:
    """A bad certificate gets nobody in, not even where none would do."""
    context = hostile_context(ssl.PROTOCOL_TLS_CLIENT, BAD_CLIENTS[case], tmp_path / "bad")
    listening = server.server_context(require_client=require_client)
    async with tls_listener(listening, anonymous=True) as listener:
        assert await refusal(lambda: tls_greeting(listener.port, context))
    assert listener.admitted == []


@pytest.mark.parametrize("case", BAD_SERVERS)
async def test_bad_servers_are_not_believed(client: TlsMaterial, tmp_path: Path, case: str) -> None:
    """A client sends nothing to a server that cannot prove its address."""
    listening = hostile_context(ssl.PROTOCOL_TLS_SERVER, BAD_SERVERS[case], tmp_path / "bad")
    async with tls_listener(listening, anonymous=True) as listener:
        reason = await refusal(lambda: tls_greeting(listener.port, client.client_context()))
    assert reason is not None
    assert "CERTIFICATE_VERIFY_FAILED" in reason or "certificate" in reason


async def test_no_certificate_is_refused(server: TlsMaterial, tmp_path: Path) -> None:
    """Who shows nothing is nobody, and is let in only where that is allowed."""
    context = hostile_context(ssl.PROTOCOL_TLS_CLIENT, None, tmp_path)
    async with tls_listener(server.server_context()) as listener:
        assert await refusal(lambda: tls_greeting(listener.port, context))
    async with tls_listener(server.server_context(require_client=False), anonymous=True) as listener:
        assert await tls_greeting(listener.port, context) == "nobody"
    assert listener.admitted == []


async def test_tls_1_2_is_refused(server: TlsMaterial, tmp_path: Path) -> None:
    """A good certificate gets in over TLS 1.3, and not over an older protocol."""
    good = HONEST.issue("worker-1", Role.WORKER, now=NOW)
    context = hostile_context(ssl.PROTOCOL_TLS_CLIENT, good, tmp_path / "good")
    async with tls_listener(server.server_context()) as listener:
        assert await tls_greeting(listener.port, context) == str(identity())
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await refusal(lambda: tls_greeting(listener.port, context))
    assert listener.admitted == [identity()]


async def test_a_tls_1_2_server_is_not_believed(client: TlsMaterial, tmp_path: Path) -> None:
    """We do not dial down either."""
    good = HONEST.issue("coordinator-1", Role.COORDINATOR, ["127.0.0.1"], now=NOW)
    context = hostile_context(ssl.PROTOCOL_TLS_SERVER, good, tmp_path / "good")
    async with tls_listener(context) as listener:
        assert await tls_greeting(listener.port, client.client_context()) == str(identity())
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert await refusal(lambda: tls_greeting(listener.port, client.client_context()))


async def test_plaintext_is_refused(server: TlsMaterial) -> None:
    """HTTP without TLS gets no answer that it could use."""
    async with tls_listener(server.server_context(), anonymous=True) as listener:
        async with tls_connection(listener.port, None) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            answer = await reader.read()
        assert b"nobody" not in answer
        assert b"HTTP" not in answer
    assert listener.admitted == []


async def test_the_role_comes_from_the_certificate(server: TlsMaterial, client: TlsMaterial) -> None:
    """A worker's certificate is good on the wire, and is a worker's to whoever asks for a coordinator."""
    async with tls_listener(server.server_context()) as listener:
        await tls_greeting(listener.port, client.client_context())
    assert [admitted.role for admitted in listener.admitted] == [Role.WORKER]
    assert Role.COORDINATOR not in {admitted.role for admitted in listener.admitted}
