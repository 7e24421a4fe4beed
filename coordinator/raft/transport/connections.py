"""Connections between coordinators: mutual TLS, one live connection per peer, nothing read before authentication.

Of two nodes, the one whose name sorts first dials. Both sides check that the other's certificate names a coordinator
of the trust domain and exactly the configured peer; they check again twice a second, so that expiry and revocation
end a connection that is open.

Connections follow the certificates. After a reload, each is replaced before the old one is closed: the dialing node
opens a second connection, which replaces the first on both sides once it is verified; the other node requests that.
So no heartbeat is missed, and no election begins.
"""

import asyncio
import contextlib
import logging
import random
import socket
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime

from coordinator.raft.errors import FrameError
from coordinator.raft.transport.connection import PeerConnection
from pki.tls.material import TlsMaterial
from pki.x509.identity import IdentityError, Role
from zkp.daemon.acceptor import BACKLOG, TlsAcceptor
from zkp.daemon.admission import source_of
from zkp.daemon.bounded_log import BoundedLog
from zkp.daemon.listening import listen
from zkp.daemon.settings import Address
from zkp.protocol.v1 import raft_pb2 as pb

log = logging.getLogger("zkp.raft.links")

CONNECT_TIMEOUT_S = 1.0
HANDSHAKE_TIMEOUT_S = 2.0
_RETRY_MIN_S, _RETRY_MAX_S = 0.05, 1.0
_RECONNECT_RETRY_MAX_S = 10.0  # while the connection that is to be re-made still works
_RECONNECT_PAUSE_S = 0.2  # between two connections: one after another
_REPLACED_LINGER_S = 2.0  # a connection whose place was taken is read on for so long
_MAX_CONNECTION_AGE_S = 3600.0  # then it is re-made: a new handshake with the certificates of the day
_CERTIFICATE_CHECK_PERIOD_S = 0.5
_RESOLVE_PERIOD_S = 60.0  # a peer's name may be given another address
_MAX_BACKLOG_BYTES = 64 << 20
"""A peer that does not read is cut off before this node's memory suffers."""
_RECONNECT_MAX_BACKLOG_BYTES = 64 << 10
"""A connection with more than this on its way is not re-made now: a snapshot would begin again."""


@dataclass(frozen=True, slots=True)
class LinkEvents:
    """Callbacks; on_frame may raise FrameError to have the connection closed."""

    on_up: Callable[[str], None]
    on_down: Callable[[str], None]
    on_replaced: Callable[[str], None]
    """The peer's live connection is another one now; `on_up` follows."""
    on_frame: Callable[[str, pb.Envelope], None]
    on_refused: Callable[[str], None]
    """reason, for metrics: "handshake", "identity", "frame", or pki's word for what was wrong with the handshake."""


class PeerConnections:
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
        self._live: dict[str, PeerConnection] = {}
        self._open: dict[PeerConnection, str] = {}
        """Every connection with an authenticated peer; the live ones, and those whose place was taken."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = BoundedLog(log, time.monotonic)
        self._acceptor: TlsAcceptor | None = None
        self._sources = frozenset(source_of(peer.host) for peer in peers.values())
        """Where connections of peers come from, as far as that is known; names are resolved later."""
        self._reconnect_lock = asyncio.Lock()

    async def start(self) -> None:
        """Listen and start dialing. Raises OSError when the address cannot be bound."""
        self._acceptor = TlsAcceptor(
            await listen(self._bind.host, self._bind.port, backlog=BACKLOG),
            self._material.server_context(),
            lambda: PeerConnection(self._material.client_context()),
            on_connected=self._on_accepted,
            on_refused=self._events.on_refused,
            expected=lambda source: source in self._sources,
            speaks_http=False,
            called="a Raft connection",
            handshake_seconds=HANDSHAKE_TIMEOUT_S,
        )
        self._acceptor.start()
        self._spawn(self._find_sources())
        self._spawn(self._check_certificates_periodically())
        for peer in self._peers:
            if self._dials(peer):
                self._spawn(self._dial(peer))

    async def stop(self) -> None:
        """Close every connection; no event is reported after this."""
        if self._acceptor is not None:
            await self._acceptor.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for link in list(self._open):
            link.on_closed = None
            link.close()
        self._open.clear()
        self._live.clear()

    def send(self, peer_id: str, envelope: pb.Envelope) -> None:
        """Queue a frame; dropped when there is no connection: Raft repeats what matters."""
        link = self._live.get(peer_id)
        if link is None:
            return
        if link.backlog() > _MAX_BACKLOG_BYTES:
            log.warning("peer does not read: connection closed", extra={"peer": peer_id})
            link.close()
            return
        link.send(envelope)

    def backlog(self, peer_id: str) -> int:
        """Return the number of bytes that are queued for a peer."""
        link = self._live.get(peer_id)
        return 0 if link is None else link.backlog()

    def round_trips(self) -> dict[str, float]:
        """Peer → the kernel's smoothed round trip of its live connection, in seconds."""
        return {peer: link.round_trip() for peer, link in self._live.items()}

    def refresh(self) -> None:
        """The node's own files have changed: have every connection re-made that was made with the older ones."""
        for peer, link in self._live.items():
            self._keep_current(peer, link)

    def check_certificates(self) -> None:
        """Close connections whose peer certificate is no longer valid; mark aged connections stale."""
        now, time = datetime.now(UTC), asyncio.get_running_loop().time()
        for link, peer in list(self._open.items()):
            try:
                self._material.check_peer(link.tls(), now)
            except IdentityError as error:
                self._refused(str(error.refusal), peer, str(error))
                link.close()
            if time - link.made_at > _MAX_CONNECTION_AGE_S:
                link.mark_stale()

    def _keep_current(self, peer: str, link: PeerConnection) -> None:
        if link.made_with is self._material.client_context():
            return
        if self._dials(peer):
            link.mark_stale()
        else:
            link.send(pb.Envelope(redial=pb.Redial()))

    def _dials(self, peer: str) -> bool:
        return self._node_id < peer

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _check_certificates_periodically(self) -> None:
        while True:
            await asyncio.sleep(_CERTIFICATE_CHECK_PERIOD_S)
            self.check_certificates()

    # ------------------------------------------------------------ accepting

    async def _find_sources(self) -> None:
        """Keep up to date from which addresses peers come: those have places of their own."""
        loop = asyncio.get_running_loop()
        while True:
            found: set[str] = set()
            for address in self._peers.values():
                # A name that cannot be resolved now: the peer is a source like any other until it has come once.
                with contextlib.suppress(OSError):
                    answers = await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
                    found |= {source_of(str(answer[4][0])) for answer in answers}
            self._sources = frozenset(found)
            await asyncio.sleep(_RESOLVE_PERIOD_S)

    def _on_accepted(
        self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol, _: str, address: str
    ) -> None:
        """Identify the peer after the TLS handshake; its bytes are read only then."""
        if not isinstance(protocol, PeerConnection):
            raise TypeError("the acceptor was given another kind of protocol")
        try:
            _tune(transport.get_extra_info("socket"))
            peer = self._identify(protocol)
        except OSError as error:  # it has gone
            log.debug("connection lost: %s", error, extra={"peer": address})
            protocol.close()
        except _NotOurPeer as error:
            self._refused(error.kind, address, str(error))
            protocol.close()
        else:
            self._begin(peer, protocol, address)

    # ------------------------------------------------------------ dialing

    async def _dial(self, peer: str) -> None:
        """Keep a connection to the peer: retry with bounded backoff, logging each new reason once."""
        pause, said = _RETRY_MIN_S, ""
        while True:
            await self._wait_until_needed(peer)
            try:
                if peer in self._live:
                    async with self._reconnect_lock:
                        await self._connect(peer)
                        await asyncio.sleep(_RECONNECT_PAUSE_S)
                else:
                    await self._connect(peer)
            except (OSError, TimeoutError) as error:
                reason = _reason(error)
                log.log(
                    logging.DEBUG if reason == said else logging.INFO,
                    "cannot connect: %s",
                    reason,
                    extra={"peer": peer},
                )
                said = reason
            except _NotOurPeer as error:
                self._refused(error.kind, str(self._peers[peer]), str(error))
            else:
                pause, said = _RETRY_MIN_S, ""
                continue
            await self._backoff(peer, pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads retries
            pause = min(2 * pause, _RECONNECT_RETRY_MAX_S if peer in self._live else _RETRY_MAX_S)

    async def _wait_until_needed(self, peer: str) -> None:
        """Return when the peer has no connection, or a stale one with a small send backlog."""
        while (link := self._live.get(peer)) is not None:
            await asyncio.wait((link.closed, link.stale), return_when=asyncio.FIRST_COMPLETED)
            if link.closed.done():
                await asyncio.sleep(_RETRY_MIN_S)
            elif link.backlog() <= _RECONNECT_MAX_BACKLOG_BYTES:
                return
            else:
                await self._backoff(peer, _RETRY_MAX_S)

    async def _backoff(self, peer: str, seconds: float) -> None:
        """Sleep for the backoff; return early when the live connection closes."""
        link = self._live.get(peer)
        if link is None:
            await asyncio.sleep(seconds)
        else:
            await asyncio.wait((link.closed,), timeout=seconds)

    async def _connect(self, peer: str) -> None:
        """Open a connection and make it live once the peer's hello shows that it accepted this node."""
        address = self._peers[peer]
        link = PeerConnection(self._material.client_context())
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                transport, _ = await asyncio.get_running_loop().create_connection(
                    lambda: link,
                    address.host,
                    address.port,
                    ssl=self._material.client_context(),
                    server_hostname=address.host,
                    ssl_handshake_timeout=CONNECT_TIMEOUT_S,
                )
            _tune(transport.get_extra_info("socket"))
            self._identify(link, expected=peer)
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await link.heard()
        except BaseException:
            link.close()
            raise
        self._begin(peer, link, str(address))

    # ------------------------------------------------------------ serving

    def _identify(self, link: PeerConnection, expected: str | None = None) -> str:
        """Return the configured peer that the certificate names. expected: the peer that was dialed, if any.

        Raises _NotOurPeer, also when it is another than was expected, or should have been dialled.
        """
        try:
            identity = self._material.check_peer(link.tls(), datetime.now(UTC)).identity
        except IdentityError as error:
            raise _NotOurPeer(str(error.refusal), str(error)) from None
        if identity.role is not Role.COORDINATOR:
            holder = f"{identity.uri} is {identity.role.with_article}"
            raise _NotOurPeer("identity", f"{holder}: only coordinators speak Raft")
        if identity.name not in self._peers:
            raise _NotOurPeer("identity", f"{identity.uri} is not a configured peer of {self._node_id}")
        if expected is None and self._dials(identity.name):
            # It would take the place of the connection that this node has made and found good.
            raise _NotOurPeer("identity", f"{identity.name} dials, but of the two {self._node_id} does")
        if expected is not None and identity.name != expected:
            raise _NotOurPeer("identity", f"the certificate names {identity.name}, not {expected}")
        return identity.name

    def _begin(self, peer: str, link: PeerConnection, address: str) -> None:
        """Make the connection the live one; an older one is read on for a moment."""
        if link.closed.done():
            return
        older = self._live.get(peer)
        self._live[peer] = link
        self._open[link] = peer
        link.on_closed = lambda error: self._ended(peer, link, error)
        if older is not None:
            asyncio.get_running_loop().call_later(_REPLACED_LINGER_S, older.close)
            self._events.on_replaced(peer)
        self._events.on_up(peer)
        link.listen(
            lambda envelope: self._take(peer, link, envelope),
            lambda error: self._broken(f"{peer} ({address})", link, error),
        )
        self._keep_current(peer, link)  # should the files have changed during the handshake

    def _take(self, peer: str, link: PeerConnection, envelope: pb.Envelope) -> None:
        if envelope.HasField("redial"):
            if self._dials(peer):
                link.mark_stale()
            return
        self._events.on_frame(peer, envelope)

    def _ended(self, peer: str, link: PeerConnection, error: Exception | None) -> None:
        del self._open[link]
        if self._live.get(peer) is link:
            log.info("connection closed%s", f": {_reason(error)}" if error else "", extra={"peer": peer})
            del self._live[peer]
            self._events.on_down(peer)

    def _broken(self, whose: str, link: PeerConnection, error: FrameError) -> None:
        self._refused("frame", whose, str(error))
        link.close()

    def _refused(self, kind: str, address: str, reason: str) -> None:
        self._log.warning(f"refused a Raft connection: {reason}", address)
        self._events.on_refused(kind)


class _NotOurPeer(Exception):
    """The remote end is not a configured peer, or must not dial. kind: label for metrics."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def _tune(connection: socket.socket) -> None:
    """Disable Nagle's algorithm, and detect a vanished peer within seconds."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 3_000)


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
