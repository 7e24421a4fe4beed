"""Connections between coordinators: mutual TLS, one live connection a peer, nothing read from strangers.

Of two nodes, the one whose name sorts first dials. Both sides check that the other's certificate names a coordinator
of the trust domain and exactly the configured peer.
"""

import asyncio
import logging
import random
import socket
import ssl
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import cast

from coordinator.raft import frames
from coordinator.raft.errors import FrameError
from pki.identity import Identity, IdentityError, Role
from pki.tls import TlsMaterial, peer_identity
from protocol.v1 import raft_pb2 as pb

log = logging.getLogger("zkp.raft.links")

CONNECT_TIMEOUT = 1.0
HANDSHAKE_TIMEOUT = 2.0
_RETRY_MIN, _RETRY_MAX = 0.05, 1.0
_MAX_HANDSHAKES = 64
_MAX_BACKLOG = 64 << 20
"""A peer that does not read is cut off before this node's memory suffers."""


@dataclass(frozen=True, slots=True)
class Address:
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class LinkEvents:
    """Who is told; on_frame may raise FrameError to have the connection closed."""

    on_up: Callable[[str], None]
    on_down: Callable[[str], None]
    on_frame: Callable[[str, pb.Envelope], None]
    on_refused: Callable[[str], None]
    """reason: "handshake", "identity" or "frame"; for metrics."""


class _Link(asyncio.Protocol):
    """One connection whose peer is authenticated; cuts the byte stream into frames."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.closed = asyncio.get_running_loop().create_future()
        self.on_frame: Callable[[pb.Envelope], None] | None = None
        self.on_broken: Callable[[FrameError], None] | None = None
        self._received = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self.on_frame is not None:
            self.take_frames()

    def take_frames(self) -> None:
        """Hand over every whole frame that has arrived."""
        start, prefix = 0, frames.LENGTH.size
        try:
            while self.on_frame is not None and len(self._received) >= start + prefix:
                length = frames.body_length(bytes(self._received[start : start + prefix]))
                end = start + prefix + length
                if len(self._received) < end:
                    break
                self.on_frame(frames.unpack(bytes(self._received[start + prefix : end])))
                start = end
        except FrameError as error:
            self.on_frame = None
            if self.on_broken is not None:
                self.on_broken(error)
        del self._received[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        self.on_frame = None
        if not self.closed.done():
            self.closed.set_result(exc)

    def close(self) -> None:
        self.on_frame = None
        if self.transport is not None:
            self.transport.abort()


class Links:
    """All connections of one node to its peers."""

    def __init__(
        self,
        node_id: str,
        bind: Address,
        peers: dict[str, Address],
        material: TlsMaterial,
        events: LinkEvents,
    ) -> None:
        self._node_id = node_id
        self._bind = bind
        self._peers = peers
        self._material = material
        self._events = events
        self._live: dict[str, _Link] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._handshakes = asyncio.Semaphore(_MAX_HANDSHAKES)

    async def start(self) -> None:
        """Listen, and begin to dial. Raises OSError when the address cannot be bound."""
        family = socket.AF_INET6 if ":" in self._bind.host else socket.AF_INET
        listener = socket.create_server((self._bind.host, self._bind.port), family=family, backlog=128)
        listener.setblocking(False)
        self._spawn(self._accept(listener))
        for peer in self._peers:
            if self._node_id < peer:
                self._spawn(self._dial(peer))

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in list(self._live.values()):
            link.close()

    def send(self, peer_id: str, envelope: pb.Envelope) -> None:
        """Queue a frame; dropped when there is no connection: Raft repeats what matters."""
        link = self._live.get(peer_id)
        if link is None or link.transport is None:
            return
        if self.backlog(peer_id) > _MAX_BACKLOG:
            log.warning("peer does not read: connection closed", extra={"peer": peer_id})
            link.close()
            return
        link.transport.write(frames.pack(envelope))

    def backlog(self, peer_id: str) -> int:
        link = self._live.get(peer_id)
        return link.transport.get_write_buffer_size() if link is not None and link.transport else 0

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ------------------------------------------------------------ accepting

    async def _accept(self, listener: socket.socket) -> None:
        """Accept for ever: running out of file descriptors is waited out, not fatal."""
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                await self._handshakes.acquire()
                try:
                    connection, address = await loop.sock_accept(listener)
                except OSError as error:
                    self._handshakes.release()
                    log.error("cannot accept connections: %s; trying again", error)
                    await asyncio.sleep(0.2)
                    continue
                except BaseException:
                    self._handshakes.release()
                    raise
                self._spawn(self._welcome(connection, f"{address[0]}:{address[1]}"))

    async def _welcome(self, connection: socket.socket, address: str) -> None:
        """Finish the handshake, learn who it is, and only then read."""
        loop = asyncio.get_running_loop()
        link = _Link()
        try:
            _tune(connection)
            transport, _ = await loop.connect_accepted_socket(
                lambda: link,
                connection,
                ssl=self._material.server_context(),
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT,
            )
        except (OSError, TimeoutError) as error:
            self._refused("handshake", address, _reason(error))
            connection.close()
            return
        finally:
            self._handshakes.release()
        try:
            peer = self._identify(transport)
        except IdentityError as error:
            self._refused("identity", address, str(error))
            link.close()
            return
        await self._serve(peer, link, address)

    # ------------------------------------------------------------ dialing

    async def _dial(self, peer: str) -> None:
        """Keep a connection to the peer, trying again for ever with a bounded pause."""
        pause = _RETRY_MIN
        while True:
            try:
                link = await self._connect(peer)
            except (OSError, TimeoutError) as error:
                log.debug("cannot connect: %s", _reason(error), extra={"peer": peer})
            except IdentityError as error:
                self._refused("identity", str(self._peers[peer]), str(error))
            else:
                pause = _RETRY_MIN
                await self._serve(peer, link, str(self._peers[peer]))
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries
            pause = min(2 * pause, _RETRY_MAX)

    async def _connect(self, peer: str) -> _Link:
        address = self._peers[peer]
        link = _Link()
        async with asyncio.timeout(CONNECT_TIMEOUT):
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: link,
                address.host,
                address.port,
                ssl=self._material.client_context(),
                server_hostname=address.host,
                ssl_handshake_timeout=CONNECT_TIMEOUT,
            )
        try:
            _tune(transport.get_extra_info("socket"))
            self._identify(transport, expected=peer)
        except IdentityError:
            link.close()
            raise
        return link

    # ------------------------------------------------------------ serving

    def _identify(self, transport: asyncio.BaseTransport, expected: str | None = None) -> str:
        """The configured peer that the certificate names. Raises IdentityError, also when it is not `expected`."""
        tls = transport.get_extra_info("ssl_object")
        own: Identity = self._material.identity
        identity = peer_identity(cast("ssl.SSLObject", tls), own.trust_domain)
        if identity.role is not Role.COORDINATOR:
            raise IdentityError(f"{identity.uri} is a {identity.role}: only coordinators speak Raft")
        if identity.name not in self._peers:
            raise IdentityError(f"{identity.uri} is not a configured peer of {self._node_id}")
        if expected is not None and identity.name != expected:
            raise IdentityError(f"the certificate names {identity.name}, not {expected}")
        return identity.name

    async def _serve(self, peer: str, link: _Link, address: str) -> None:
        """Make the connection the live one, end an older one, and hold it until it closes."""
        older = self._live.pop(peer, None)
        if older is not None:
            older.close()
            self._events.on_down(peer)
        self._live[peer] = link
        self._events.on_up(peer)
        link.on_broken = lambda error: self._broken(peer, address, link, error)
        link.on_frame = lambda envelope: self._events.on_frame(peer, envelope)
        link.take_frames()
        try:
            reason = await link.closed
            log.info("connection closed%s", f": {_reason(reason)}" if reason else "", extra={"peer": peer})
        finally:
            link.close()
            if self._live.get(peer) is link:
                del self._live[peer]
                self._events.on_down(peer)

    def _broken(self, peer: str, address: str, link: _Link, error: FrameError) -> None:
        self._refused("frame", f"{peer} ({address})", str(error))
        link.close()

    def _refused(self, kind: str, address: str, reason: str) -> None:
        log.warning("refused a Raft connection: %s", reason, extra={"peer": address})
        self._events.on_refused(kind)


def _tune(connection: socket.socket) -> None:
    """No waiting for full packets; a peer that vanished is noticed in seconds."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3_000)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
