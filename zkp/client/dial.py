"""Opening a connection to an address, after its far end has proved to be a coordinator.

What is checked, and by whom: gRPC verifies the chain and the host of every connection that it makes, but
its Python client does not show the server's certificate, so it could not tell a coordinator from a worker
on the same host. Therefore one TLS connection of our own goes first. It verifies the same, and reads the
role from the certificate. What gRPC reconnects by itself is checked for chain and host only; but a line is
given up at its first failure, so that in practice every new connection is a new line, checked in full.

That first connection also finds the reason of a failure in words; gRPC says "failed to connect" to most of
them.
"""

import asyncio
import socket
import ssl
from typing import Protocol

import grpc

from pki.tls.material import TlsMaterial, peer_identity
from pki.x509.identity import IdentityError, Role
from zkp.client.channel import Channel, GrpcLine
from zkp.client.failures import DialFailed
from zkp.client.leader_search import grpc_target, parse_address
from zkp.protocol.limits import MAX_MESSAGE_BYTES

_FRAME_HEADER_BYTES = 9  # an HTTP/2 server speaks first: a SETTINGS frame

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # A leader that vanished without a word is noticed within 15 s, on quiet streams too.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A ping of gRPC's own that is under way takes the keep-alive's place, and would be waited for a minute.
    ("grpc.http2.ping_timeout_ms", 5_000),
    # A new line inherits neither the connection nor the back-off of one that was given up.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),  # leader.py decides on retries: it knows who leads
    ("grpc.enable_http_proxy", 0),  # no environment variable reroutes the network's traffic
)


class Dialer(Protocol):
    """Opens lines. `generation` changes when lines opened before should be replaced."""

    @property
    def generation(self) -> object:
        """Equal for as long as the credentials are the same."""
        ...

    async def dial(self, address: str, timeout: float) -> Channel:
        """A line to `address` within `timeout` seconds; raises `DialFailed`."""
        ...


class TlsDialer:
    """Dials coordinators of the trust domain of our own certificate."""

    def __init__(self, material: TlsMaterial) -> None:
        self._material = material

    @property
    def generation(self) -> object:
        return self._material.client_context()  # a new one with each reload that brought something new

    async def dial(self, address: str, timeout: float) -> Channel:
        """See `Dialer`. A far end that is not a coordinator of our trust domain is a `DialFailed` too."""
        try:
            async with asyncio.timeout(timeout):
                await self._verify_coordinator(address)
        except TimeoutError:
            raise DialFailed(f"no answer within {timeout:.1f} s") from None
        credentials = self._material.grpc_channel_credentials()
        return GrpcLine(address, grpc.aio.secure_channel(grpc_target(address), credentials, options=_OPTIONS))

    async def _verify_coordinator(self, address: str) -> None:
        host, port = parse_address(address)
        context = self._material.client_context()
        # gRPC servers hang up on whoever does not ask for HTTP/2; nothing else is dialled with this context.
        context.set_alpn_protocols(["h2"])
        try:
            reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
        except OSError as error:  # includes ssl.SSLError
            raise _connect_failure(error) from None
        try:
            self._check_role(writer)
            # With TLS 1.3 our side is done before the server has looked at our certificate:
            # only its first bytes say that it liked it.
            await reader.readexactly(_FRAME_HEADER_BYTES)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise _refusal(error) from None
        finally:
            writer.transport.abort()

    def _check_role(self, writer: asyncio.StreamWriter) -> None:
        try:
            peer = peer_identity(writer.get_extra_info("ssl_object"), self._material.identity.trust_domain)
        except IdentityError as error:
            raise DialFailed(f"not a coordinator of ours: {error}", hopeless=True) from None
        if peer.role is not Role.COORDINATOR:
            raise DialFailed(f"{peer.uri} is not a coordinator", hopeless=True)


def _connect_failure(error: OSError) -> DialFailed:
    if isinstance(error, ssl.SSLCertVerificationError):
        return DialFailed(f"its certificate is refused: {error.verify_message}", hopeless=True)
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return DialFailed(f"no TLS 1.3 there: {error.reason or error}", hopeless=True)
    if isinstance(error, socket.gaierror):
        return DialFailed("no such host")
    if isinstance(error, ConnectionRefusedError):
        return DialFailed("connection refused: nothing listens there")
    return DialFailed(f"cannot connect: {error.strerror or type(error).__name__}")


def _refusal(error: OSError | asyncio.IncompleteReadError) -> DialFailed:
    if isinstance(error, ssl.SSLError):
        return DialFailed(f"it refuses our certificate: {error.reason or error}", hopeless=True)
    # A server that is going down closes just the same, so this may pass.
    return DialFailed("it closed the connection after the handshake (it may refuse our certificate)")
