"""The same handlers behind our server and behind grpc.aio's, with clients of both kinds."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from coordinator.rpc.serving.connection import ConnectionTiming
from coordinator.rpc.serving.server import GrpcServer
from pki.x509.identity import Role
from tests.integration.coordinator.front import Identities

HOST = "127.0.0.1"
SERVICE = "/test.Probe/"


@dataclass
class Probe(grpc.GenericRpcHandler):
    """Handlers of every kind, on plain bytes."""

    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    started: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[Any] = field(default_factory=list)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Find a handler by the name of the method: KIND_name."""
        name = handler_call_details.method.removeprefix(SERVICE)
        behaviour = getattr(self, name, None)
        make = {
            "unary": grpc.unary_unary_rpc_method_handler,
            "down": grpc.unary_stream_rpc_method_handler,
            "up": grpc.stream_unary_rpc_method_handler,
            "both": grpc.stream_stream_rpc_method_handler,
        }.get(name.partition("_")[0])
        return None if behaviour is None or make is None else make(behaviour)

    async def unary_echo(self, request: bytes, context: Any) -> bytes:
        return request

    async def unary_large(self, request: bytes, context: Any) -> bytes:
        return bytes(int(request))

    async def unary_abort(self, request: bytes, context: Any) -> bytes:
        code = next(code for code in grpc.StatusCode if code.name == request.decode())
        await context.abort(code, "déjà vu: 100 %\n", (("x-text", "value"), ("x-data-bin", b"\x00\xff")))
        return b""

    async def unary_set_code(self, request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.ALREADY_EXISTS)
        context.set_details("set, not raised")
        context.set_trailing_metadata((("x-later", "1"),))
        return b"ignored"

    async def unary_metadata(self, request: bytes, context: Any) -> bytes:
        own = [(name, value) for name, value in context.invocation_metadata() if name.startswith("x-")]
        await context.send_initial_metadata((("x-first", "1"), ("x-first-bin", b"\x01\x02")))
        context.set_trailing_metadata(own)
        return repr(sorted(own)).encode()

    async def unary_hold(self, request: bytes, context: Any) -> bytes:
        self.seen.append(context.time_remaining())
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return b"released"

    async def unary_tls(self, request: bytes, context: Any) -> bytes:
        auth = context.auth_context()
        return b"|".join((auth["ssl_tls_version"][0], next(iter(auth["x509_pem_cert"]))))

    async def down_count(self, request: bytes, context: Any) -> None:
        for number in range(int(request)):
            await context.write(str(number).encode())

    async def down_blocks(self, request: bytes, context: Any) -> None:
        for _ in range(int(request)):
            await context.write(bytes(64 * 1024))
            self.seen.append(1)

    async def down_abort(self, request: bytes, context: Any) -> None:
        await context.write(b"one")
        await context.abort(grpc.StatusCode.DATA_LOSS, "after one", (("x-end", "1"),))

    async def down_hold(self, request: bytes, context: Any) -> None:
        await context.send_initial_metadata(())
        await self.unary_hold(request, context)

    async def up_sum(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        return str(sum([int(one) async for one in requests])).encode()

    async def up_first(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        async for one in requests:
            return one
        return b"none"

    async def both_echo(self, requests: AsyncIterator[bytes], context: Any) -> None:
        async for one in requests:
            await context.write(one)

    async def both_slow(self, requests: AsyncIterator[bytes], context: Any) -> None:
        self.started.set()
        await self.release.wait()
        async for one in requests:
            self.seen.append(len(one))
        await context.write(str(len(self.seen)).encode())


@dataclass
class Running:
    """A server, its handlers and where it listens."""

    identities: Identities
    probe: Probe
    port: int
    server: Any

    @asynccontextmanager
    async def channel(self, name: str = "alice", **options: Any) -> AsyncIterator[grpc.aio.Channel]:
        """A connection with this client's certificate."""
        credentials = self.identities.material(name, Role.CLIENT).grpc_channel_credentials()
        given = [(f"grpc.{key}", value) for key, value in options.items()]
        async with grpc.aio.secure_channel(f"{HOST}:{self.port}", credentials, options=given) as channel:
            yield channel

    def client_context(self, name: str = "alice") -> ssl.SSLContext:
        """TLS for a client that speaks HTTP/2 by itself."""
        files = self.identities.material(name, Role.CLIENT).files
        context = ssl.create_default_context(cafile=files.ca)
        context.load_cert_chain(files.certificate, files.key)
        context.set_alpn_protocols(["h2"])
        return context


@asynccontextmanager
async def own(
    identities: Identities, *, timing: ConnectionTiming | None = None, max_calls: int = 1000, grace_s: float = 0.2
) -> AsyncIterator[Running]:
    """Our server."""
    probe = Probe()
    server = GrpcServer(probe, timing=timing, max_calls=max_calls)
    port = await server.start(HOST, 0, identities.material("coordinator-1", Role.COORDINATOR))
    try:
        yield Running(identities, probe, port, server)
    finally:
        await server.stop(grace_s)


@asynccontextmanager
async def oracle(identities: Identities) -> AsyncIterator[Running]:
    """grpc.aio's server with the same handlers."""
    probe = Probe()
    server = grpc.aio.server(handlers=[probe])
    credentials = identities.material("coordinator-1", Role.COORDINATOR).grpc_server_credentials()
    port = server.add_secure_port(f"{HOST}:0", credentials)
    await server.start()
    try:
        yield Running(identities, probe, port, server)
    finally:
        await server.stop(0.2)
