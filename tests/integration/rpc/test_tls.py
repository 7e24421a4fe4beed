"""Who gets to the gRPC port: the whole matrix of bad clients, reload, revocation."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from coordinator.rpc.serving.server import GrpcServer
from pki.errors import IdentityError
from pki.tls.material import TlsMaterial
from pki.x509.identity import Role
from tests.integration.pki.endpoints import BAD_CLIENTS, HONEST, NOW, PATIENCE, hostile_context, material
from tests.unit.pki.forgery import identity
from tests.unit.rpc.http2.peer import PREFACE, SETTINGS, frame, request

SAY = "/test.Echo/Say"


@dataclass
class Guarded(grpc.GenericRpcHandler):
    """A method that answers with the caller's identity, as the guard finds it out."""

    material: TlsMaterial
    admitted: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    port: int = 0

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._say)

    async def _say(self, _: bytes, context: Any) -> bytes:
        try:
            caller = self.material.check_grpc_peer(context.auth_context(), datetime.now(UTC)).identity
        except IdentityError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        self.admitted.append(caller.uri)
        return caller.uri.encode()


@pytest.fixture
def server(tmp_path: Path) -> TlsMaterial:
    """A coordinator's certificate."""
    return material(tmp_path, "coordinator-1", Role.COORDINATOR)


@pytest.fixture
def client(tmp_path: Path) -> TlsMaterial:
    """A worker's certificate."""
    return material(tmp_path, "worker-1", Role.WORKER)


@pytest.fixture
async def guarded(server: TlsMaterial) -> AsyncIterator[Guarded]:
    """The server."""
    handlers = Guarded(server)
    serving = GrpcServer(handlers, on_refused=handlers.refused.append)
    handlers.port = await serving.start("127.0.0.1", 0, server)
    yield handlers
    await serving.stop(0.2)


async def say(port: int, credentials: grpc.ChannelCredentials) -> bytes:
    """Call with a new connection."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        method: Any = channel.unary_unary(SAY)
        answer: bytes = await method(b"", timeout=PATIENCE)
        return answer


async def test_members_get_in(guarded: Guarded, client: TlsMaterial) -> None:
    """By a chain that leads to the root."""
    assert await say(guarded.port, client.grpc_channel_credentials()) == identity().uri.encode()


@pytest.mark.parametrize("case", sorted(BAD_CLIENTS))
async def test_bad_certificates_are_refused_in_the_handshake(guarded: Guarded, case: str) -> None:
    """Expired, not yet valid, of another authority or trust domain, with the wrong purpose, …: none makes a call."""
    issued = BAD_CLIENTS[case]
    credentials = grpc.ssl_channel_credentials(
        guarded.material.files.ca.read_bytes(), issued.key_pem, issued.certificate_pem
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await say(guarded.port, credentials)
    assert caught.value.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED}
    assert guarded.admitted == []


async def attempt(port: int, context: ssl.SSLContext | None, sent: bytes) -> bytes:
    """Connect, send, read until the server closes the connection."""
    with contextlib.suppress(OSError):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            writer.write(sent)
            async with asyncio.timeout(PATIENCE):
                return await reader.read()
        finally:
            writer.close()
    return b""


async def test_tls_1_2_is_refused(guarded: Guarded, tmp_path: Path) -> None:
    """With a certificate that is good otherwise."""
    issued = HONEST.issue("worker-1", Role.WORKER, now=NOW)
    context = hostile_context(ssl.PROTOCOL_TLS_CLIENT, issued, tmp_path / "old")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert await attempt(guarded.port, context, b"x") == b""
    assert guarded.refused == ["old_tls"]


async def test_no_certificate(guarded: Guarded, tmp_path: Path) -> None:
    """Refused, and counted by its reason."""
    context = hostile_context(ssl.PROTOCOL_TLS_CLIENT, None, tmp_path)
    await attempt(guarded.port, context, b"x")
    assert guarded.refused == ["no_certificate"]


@pytest.mark.parametrize("offered", [None, ["http/1.1"]])
async def test_without_http2_in_alpn(
    guarded: Guarded, tmp_path: Path, offered: list[str] | None, caplog: pytest.LogCaptureFixture
) -> None:
    """HTTP/1.1 over TLS, whether it says so or not: closed without an answer."""
    issued = HONEST.issue("worker-1", Role.WORKER, now=NOW)
    context = hostile_context(ssl.PROTOCOL_TLS_CLIENT, issued, tmp_path / "other")
    context.set_alpn_protocols(offered or ["none"])
    for sent in (b"GET / HTTP/1.1\r\n\r\n", PREFACE + frame(SETTINGS) + request(1)):
        assert await attempt(guarded.port, context, sent) == b""
    assert "does not offer HTTP/2" in caplog.text
    assert guarded.admitted == []


@pytest.mark.parametrize("sent", [b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes(300)])
async def test_plaintext(guarded: Guarded, sent: bytes) -> None:
    """HTTP of either version, and noise."""
    assert await attempt(guarded.port, None, sent) == b""
    assert guarded.refused == ["broken_tls"]


async def test_no_session_tickets(guarded: Guarded, client: TlsMaterial) -> None:
    """A ticket would outlive a revocation."""
    context = client.client_context()
    context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", guarded.port, ssl=context, server_hostname="127.0.0.1"
    )
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
    await reader.readexactly(9)
    tls = writer.get_extra_info("ssl_object")
    assert tls.version() == "TLSv1.3"
    assert tls.session is None or not tls.session.has_ticket
    writer.transport.abort()


async def test_a_reload_serves_the_new_certificate(guarded: Guarded, client: TlsMaterial, tmp_path: Path) -> None:
    """Open connections go on, new handshakes see the new leaf, and ALPN still works."""
    target = f"127.0.0.1:{guarded.port}"
    async with grpc.aio.secure_channel(target, client.grpc_channel_credentials()) as channel:
        method: Any = channel.unary_unary(SAY)
        await method(b"", timeout=PATIENCE)
        before = guarded.material.certificate.serial_number
        HONEST.issue("coordinator-1", Role.COORDINATOR, ["127.0.0.1"], now=NOW).write(tmp_path, replace=True)
        assert guarded.material.reload()
        await method(b"", timeout=PATIENCE)
        context = client.client_context()
        context.set_alpn_protocols(["h2"])
        _, writer = await asyncio.open_connection("127.0.0.1", guarded.port, ssl=context)
        tls = writer.get_extra_info("ssl_object")
        served = ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True))
        assert tls.selected_alpn_protocol() == "h2"
        writer.transport.abort()
        assert await say(guarded.port, client.grpc_channel_credentials())
    assert guarded.material.certificate.serial_number != before
    assert served.encode() in guarded.material.files.certificate.read_bytes().replace(b"\r", b"")


async def test_a_revoked_certificate_makes_no_call(guarded: Guarded, client: TlsMaterial) -> None:
    """Neither on the open connection nor on a new one, and it is told why."""
    target = f"127.0.0.1:{guarded.port}"
    async with grpc.aio.secure_channel(target, client.grpc_channel_credentials()) as channel:
        method: Any = channel.unary_unary(SAY)
        await method(b"", timeout=PATIENCE)
        guarded.material.revoke([client.certificate.serial_number])
        with pytest.raises(grpc.aio.AioRpcError, match="is revoked"):
            await method(b"", timeout=PATIENCE)
        with pytest.raises(grpc.aio.AioRpcError, match="is revoked") as caught:
            await say(guarded.port, client.grpc_channel_credentials())
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_the_leaf_of_a_revoked_ca_makes_no_call(guarded: Guarded, client: TlsMaterial) -> None:
    """The issuing CA is part of the verified chain."""
    target = f"127.0.0.1:{guarded.port}"
    async with grpc.aio.secure_channel(target, client.grpc_channel_credentials()) as channel:
        method: Any = channel.unary_unary(SAY)
        await method(b"", timeout=PATIENCE)
        guarded.material.revoke([HONEST.issuer.certificate.serial_number])
        with pytest.raises(grpc.aio.AioRpcError, match=r"issuing CA .* is revoked"):
            await method(b"", timeout=PATIENCE)
