"""Opens a channel to an address after the server has been authenticated as a coordinator.

gRPC verifies the chain and the host name of every connection, but its Python client does not expose the server's
certificate, so it cannot tell a coordinator from a worker on the same host. Therefore a separate TLS connection is
made first: it verifies the same, and reads the role from the certificate. Connections that gRPC re-establishes by
itself are checked for chain and host name only; but a channel is retired at its first failure, so in practice every
new connection belongs to a new channel, which is checked in full.

The first connection also yields a precise reason for a failure; gRPC reports most of them as "failed to connect".
"""

import asyncio
import socket
import ssl
from typing import Protocol

import grpc

from pki.tls.material import TlsMaterial, peer_identity
from pki.x509.identity import IdentityError, Role
from zkp.client.channel import Channel, GrpcChannel
from zkp.client.failures import DialFailed
from zkp.client.leader_search import grpc_target, parse_address
from zkp.protocol.limits import MAX_MESSAGE_BYTES

_FRAME_HEADER_BYTES = 9  # an HTTP/2 server sends a SETTINGS frame first (RFC 9113, section 3.4)

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    # Detects a leader that disappeared without closing its connections within 15 s, on idle streams too.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A ping that gRPC sends for itself replaces the keep-alive; its default timeout is a minute.
    ("grpc.http2.ping_timeout_ms", 5_000),
    # A new channel inherits neither the connection nor the backoff of a retired one.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),  # leader.py retries: it knows the leader
    ("grpc.enable_http_proxy", 0),  # ignore proxy environment variables
)


class Dialer(Protocol):
    """Opens channels. `generation` changes when channels opened before must be replaced."""

    @property
    def generation(self) -> object:
        """A value that is equal as long as the credentials are the same."""
        ...

    async def dial(self, address: str, timeout: float) -> Channel:
        """Open a channel to `address` within `timeout` seconds; raises `DialFailed`."""
        ...


class TlsDialer:
    """Dialer for coordinators of the trust domain of the client's own certificate."""

    def __init__(self, material: TlsMaterial) -> None:
        self._material = material

    @property
    def generation(self) -> object:
        """See `Dialer.generation`."""
        return self._material.client_context()  # replaced by each reload that changed something

    async def dial(self, address: str, timeout: float) -> Channel:
        """See `Dialer`. A server that is not a coordinator of the trust domain is a `DialFailed` too."""
        try:
            async with asyncio.timeout(timeout):
                await self._verify_coordinator(address)
        except TimeoutError:
            raise DialFailed(f"no answer within {timeout:.1f} s") from None
        credentials = self._material.grpc_channel_credentials()
        return GrpcChannel(address, grpc.aio.secure_channel(grpc_target(address), credentials, options=_OPTIONS))

    async def _verify_coordinator(self, address: str) -> None:
        host, port = parse_address(address)
        context = self._material.client_context()
        # gRPC servers close connections that do not negotiate HTTP/2; this context is used for nothing else.
        context.set_alpn_protocols(["h2"])
        try:
            reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
        except OSError as error:  # includes ssl.SSLError
            raise _connect_failure(error) from None
        try:
            self._check_role(writer)
            # In TLS 1.3 the client completes the handshake before the server has verified the client's certificate
            # (RFC 8446, section 2): only the server's first bytes show that it was accepted.
            await reader.readexactly(_FRAME_HEADER_BYTES)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise _handshake_failure(error) from None
        finally:
            writer.transport.abort()

    def _check_role(self, writer: asyncio.StreamWriter) -> None:
        try:
            peer = peer_identity(writer.get_extra_info("ssl_object"), self._material.identity.trust_domain)
        except IdentityError as error:
            raise DialFailed(f"not a coordinator of this trust domain: {error}", permanent=True) from None
        if peer.role is not Role.COORDINATOR:
            raise DialFailed(f"{peer.uri} is not a coordinator", permanent=True)


def _connect_failure(error: OSError) -> DialFailed:
    if isinstance(error, ssl.SSLCertVerificationError):
        return DialFailed(f"server certificate rejected: {error.verify_message}", permanent=True)
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return DialFailed(f"no TLS 1.3 connection: {error.reason or error}", permanent=True)
    if isinstance(error, socket.gaierror):
        return DialFailed("host name not found")
    if isinstance(error, ConnectionRefusedError):
        return DialFailed("connection refused")
    return DialFailed(f"cannot connect: {error.strerror or type(error).__name__}")


def _handshake_failure(error: OSError | asyncio.IncompleteReadError) -> DialFailed:
    if isinstance(error, ssl.SSLError):
        return DialFailed(f"client certificate rejected by the server: {error.reason or error}", permanent=True)
    # A server that is stopping closes connections in the same way, so this may be transient.
    return DialFailed("connection closed after the handshake (the server may have rejected the client certificate)")
