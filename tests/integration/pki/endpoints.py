"""TLS listeners and clients on loopback, valid and hostile, on ports that the kernel assigns."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import grpc
import grpc.aio

from pki.ca.authority import Authority
from pki.ca.issued import IssuedIdentity
from pki.tls.material import TlsMaterial, grpc_peer_identity, peer_identity
from pki.x509.identity import Identity, IdentityError, Role
from tests.unit.pki.forgery import HOSTS, TRUST_DOMAIN, authority, refused

NOW = datetime.now(UTC)  # peers verify against the real clock
HONEST = authority(NOW)
PATIENCE = 10.0  # seconds; only a hanging test waits for it
METHOD = "/test.Echo/Say"

# Who is refused although every signature is good: the purpose that the role's profile leaves out.
BAD_CLIENTS = {
    **refused(HONEST, NOW, Role.WORKER),
    "server's purpose": HONEST.issue("pg", Role.POSTGRES, HOSTS, now=NOW),
}
BAD_SERVERS = {
    **refused(HONEST, NOW, Role.COORDINATOR),
    "client's purpose": HONEST.issue("ann", Role.CLIENT, HOSTS, now=NOW),
    "wrong name": HONEST.issue("coordinator-2", Role.COORDINATOR, ["127.0.0.2", "localhost"], now=NOW),
}


@dataclass
class Listener:
    """Where one listens, and whom it let in."""

    port: int = 0
    admitted: list[Identity] = field(default_factory=list)


def material(directory: Path, name: str, role: Role, by: Authority = HONEST) -> TlsMaterial:
    """An identity on disk, loaded."""
    return TlsMaterial.load(by.issue(name, role, HOSTS, now=NOW).write(directory))


def hostile_context(protocol: int, issued: IssuedIdentity | None, directory: Path) -> ssl.SSLContext:
    """A context without our checks of one's own files; `None` shows no certificate."""
    context = ssl.SSLContext(protocol)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=HONEST.issue("x", Role.CLIENT, now=NOW).ca_pem.decode())
    context.set_alpn_protocols(["h2"])  # as gRPC wants to hear
    if issued is not None:
        files = issued.write(directory)
        context.load_cert_chain(files.certificate, files.key)
    return context


@asynccontextmanager
async def tls_listener(context: ssl.SSLContext, *, anonymous: bool = False) -> AsyncIterator[Listener]:
    """Answers each admitted connection with who it is, then echoes until it ends."""
    listener = Listener()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            identity = peer_identity(writer.get_extra_info("ssl_object"), TRUST_DOMAIN)
        except IdentityError:
            answer = b"nobody\n" if anonymous else b""
        else:
            listener.admitted.append(identity)
            answer = f"{identity}\n".encode()
        with suppress(ssl.SSLError, ConnectionError):
            writer.write(answer)
            while data := await reader.read(100):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    listener.port = server.sockets[0].getsockname()[1]
    async with server:
        yield listener


@asynccontextmanager
async def tls_connection(
    port: int, context: ssl.SSLContext | None, host: str = "127.0.0.1"
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is closed whatever happens; `None` speaks in plain text."""
    name = None if context is None else host
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ssl.SSLError, ConnectionError):
            await writer.wait_closed()


async def tls_greeting(port: int, context: ssl.SSLContext | None, host: str = "127.0.0.1") -> str:
    """Who the listener says that the caller is; raises or returns "" when it refuses."""
    async with tls_connection(port, context, host) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        return (await asyncio.wait_for(reader.readline(), PATIENCE)).decode(errors="replace").strip()


@asynccontextmanager
async def grpc_listener(credentials: grpc.ServerCredentials) -> AsyncIterator[Listener]:
    """A server whose calls answer with who the caller is; its streams echo."""
    listener = Listener()

    async def say(request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
        identity = grpc_peer_identity(context.auth_context(), TRUST_DOMAIN, datetime.now(UTC))
        listener.admitted.append(identity)
        return identity.uri.encode()

    async def echo(
        requests: AsyncIterator[bytes], _: "grpc.aio.ServicerContext[bytes, bytes]"
    ) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Say": grpc.unary_unary_rpc_method_handler(say),
        "Stream": grpc.stream_stream_rpc_method_handler(echo),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", handlers),))
    listener.port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    try:
        yield listener
    finally:
        await server.stop(None)


async def grpc_say(port: int, credentials: grpc.ChannelCredentials | None, host: str = "127.0.0.1") -> str:
    """Who the server says that the caller is; raises `grpc.aio.AioRpcError`. `None` speaks in plain text."""
    # own subchannels, or gRPC would go on using a connection of an earlier call with the same credentials
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)]
    target = f"{host}:{port}"
    channel = (
        grpc.aio.insecure_channel(target, options)
        if credentials is None
        else grpc.aio.secure_channel(target, credentials, options)
    )
    async with channel:
        say: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        answer = await say(b"?", timeout=PATIENCE)
    return answer.decode()


async def refusal(attempt: Callable[[], Awaitable[str]]) -> str | None:
    """Why an attempt was refused, or `None` when it was let in."""
    try:
        answer = await attempt()
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name}: {error.details()}"
    except (OSError, ssl.SSLError) as error:
        return f"{type(error).__name__}: {error}"
    return None if answer else "closed"
