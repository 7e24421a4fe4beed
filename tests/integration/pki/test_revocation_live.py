"""Revocation in running processes: handshakes, open connections and streams, over sockets, on both event loops."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
import uvloop

from pki.errors import IdentityError, RejectReason
from pki.tls.material import TlsMaterial
from pki.x509.identity import Role
from tests.integration.pki.authorities import Place
from tests.integration.pki.endpoints import (
    HONEST,
    PATIENCE,
    material,
    refusal,
    tls_connection,
    tls_greeting,
    tls_listener,
)
from tests.unit.pki.forgery import identity

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])


def _run(loop: Callable[[], asyncio.AbstractEventLoop], scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(scenario)


@pytest.fixture
def server(tmp_path: Path) -> TlsMaterial:
    """A coordinator."""
    return material(tmp_path, "coordinator-1", Role.COORDINATOR)


@pytest.fixture
def client(tmp_path: Path) -> TlsMaterial:
    """A worker."""
    return material(tmp_path, "worker-1", Role.WORKER)


@LOOPS
def test_a_listener_refuses_who_was_revoked_meanwhile(
    server: TlsMaterial, client: TlsMaterial, tmp_path: Path, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """What the process has learned keeps one out of the next handshake, is counted, and concerns no other."""
    other = material(tmp_path, "worker-2", Role.WORKER)

    async def scenario() -> None:
        async with tls_listener(server.server_context()) as listener:
            assert await tls_greeting(listener.port, client.client_context()) == str(identity())
            server.revoke([client.certificate.serial_number])
            assert await refusal(lambda: tls_greeting(listener.port, client.client_context()))
            assert await tls_greeting(listener.port, other.client_context())
            assert len(listener.admitted) == 2

    _run(loop, scenario())
    assert server.statistics.refused[RejectReason.REVOKED] == 1


@LOOPS
def test_a_dialler_refuses_who_was_revoked_meanwhile(
    server: TlsMaterial, client: TlsMaterial, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """A revoked server is not believed, and never learns who wanted to speak to it."""

    async def scenario() -> None:
        async with tls_listener(server.server_context()) as listener:
            client.revoke([server.certificate.serial_number])
            reason = await refusal(lambda: tls_greeting(listener.port, client.client_context()))
            assert reason is not None
            assert "is revoked" in reason
            assert listener.admitted == []

    _run(loop, scenario())
    assert client.statistics.refused[RejectReason.REVOKED] == 1


async def test_an_open_connection_is_refused_at_its_next_request(server: TlsMaterial, client: TlsMaterial) -> None:
    """The handshake was good, and asking again is what ends it."""
    asked: list[bool] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(IdentityError):
            while await reader.readline():
                server.check_peer(writer.get_extra_info("ssl_object"), datetime.now(UTC))
                asked.append(True)
                writer.write(b"served\n")
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server.server_context())
    port = listener.sockets[0].getsockname()[1]
    async with listener, tls_connection(port, client.client_context()) as (reader, writer):
        writer.write(b"first\n")
        assert await reader.readline() == b"served\n"
        server.revoke([client.certificate.serial_number])
        writer.write(b"second\n")
        assert await asyncio.wait_for(reader.read(), PATIENCE) == b""
    assert asked == [True]


@contextlib.asynccontextmanager
async def checked_grpc(server: TlsMaterial) -> AsyncIterator[int]:
    """A server that asks at each call, and at each message of a stream; its port."""

    def check(context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        return server.check_grpc_peer(context.auth_context(), datetime.now(UTC)).identity.uri.encode()

    async def say(_: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        try:
            return check(context)
        except IdentityError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
            raise

    async def stream(
        requests: AsyncIterator[bytes], context: "grpc.aio.ServicerContext[bytes, bytes]"
    ) -> AsyncIterator[bytes]:
        async for _ in requests:
            yield await say(b"", context)

    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Say": grpc.unary_unary_rpc_method_handler(say),
        "Stream": grpc.stream_stream_rpc_method_handler(stream),
    }
    listening = grpc.aio.server()
    listening.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    port = listening.add_secure_port("127.0.0.1:0", server.grpc_server_credentials())
    await listening.start()
    try:
        yield port
    finally:
        await listening.stop(None)


async def test_a_grpc_stream_of_the_revoked_ends_and_no_call_gets_through(
    server: TlsMaterial, client: TlsMaterial
) -> None:
    """An open stream ends at its next message, and a new channel gets nowhere either."""
    async with (
        checked_grpc(server) as port,
        grpc.aio.secure_channel(f"127.0.0.1:{port}", client.grpc_channel_credentials()) as channel,
    ):
        open_stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream("/test.Echo/Stream")
        stream = open_stream()
        await stream.write(b"before")
        assert await stream.read() == identity().uri.encode()
        server.revoke([client.certificate.serial_number])
        await stream.write(b"after")
        with pytest.raises(grpc.aio.AioRpcError, match=r"worker-1 is revoked") as caught:
            await stream.read()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", client.grpc_channel_credentials(), options) as fresh:
            say: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = fresh.unary_unary("/test.Echo/Say")
            with pytest.raises(grpc.aio.AioRpcError, match="is revoked"):
                await say(b"", timeout=PATIENCE)
    assert server.statistics.refused[RejectReason.REVOKED] == 2


async def test_a_leaf_of_a_revoked_ca_makes_no_call(server: TlsMaterial, client: TlsMaterial) -> None:
    """gRPC shows the issuing CA, too: once that is revoked, all its leaves are."""
    issuing = HONEST.issuer.certificate.serial_number
    async with (
        checked_grpc(server) as port,
        grpc.aio.secure_channel(f"127.0.0.1:{port}", client.grpc_channel_credentials()) as channel,
    ):
        say: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Echo/Say")
        assert await say(b"", timeout=PATIENCE) == identity().uri.encode()
        server.revoke([issuing])
        with pytest.raises(grpc.aio.AioRpcError, match=r"issuing CA .* is revoked"):
            await say(b"", timeout=PATIENCE)


@pytest.mark.parametrize("root", [False, True])
async def test_a_rotation_from_the_authority_to_the_listeners(tmp_path: Path, root: bool) -> None:
    """Bundle, switch, renew one after the other, finish: at each step all meet; at the end the old is refused."""
    place = Place.make(tmp_path)
    roles = {"coordinator-1": Role.COORDINATOR, "coordinator-2": Role.COORDINATOR, "worker-1": Role.WORKER}
    members = {name: TlsMaterial.load(place.issue(name, role)) for name, role in roles.items()}
    old = members["worker-1"].client_context()
    old_grpc = members["worker-1"].grpc_channel_credentials()
    first = members["coordinator-1"]
    async with (
        tls_listener(first.server_context()) as tls,
        tls_listener(members["coordinator-2"].server_context()) as tls_2,
        checked_grpc(first) as rpc,
    ):

        async def meet() -> list[str | None]:
            worker = members["worker-1"]
            return [
                await refusal(lambda: tls_greeting(tls.port, worker.client_context())),
                await refusal(lambda: tls_greeting(tls_2.port, worker.client_context())),
                await refusal(lambda: tls_greeting(tls_2.port, first.client_context())),
                await refusal(lambda: _say(rpc, worker.grpc_channel_credentials())),
            ]

        async def everywhere(change: Callable[[str], None]) -> None:
            for name, member in members.items():
                change(name)
                assert member.reload()
                assert await meet() == [None] * 4, name

        def bundle(name: str) -> None:
            place.store.write_bundle(tmp_path / "certs" / name, now=datetime.now(UTC), by="test")

        place.prepare(root=root)
        await everywhere(bundle)
        place.switch()
        await everywhere(place.renew)
        place.finish(root=root)
        await everywhere(bundle)
        assert await refusal(lambda: tls_greeting(tls.port, old))
        assert await refusal(lambda: _say(rpc, old_grpc))
    assert all(member.statistics.reload_failures == 0 for member in members.values())
    assert all(seconds > 0 for seconds in first.crl_seconds_to_expiry().values())


async def _say(port: int, credentials: grpc.ChannelCredentials) -> str:
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options) as channel:
        say: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/test.Echo/Say")
        return (await say(b"", timeout=PATIENCE)).decode()
