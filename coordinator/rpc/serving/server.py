"""The gRPC server: a TLS listener, the bounds that its connections share, and its end."""

import asyncio
import logging
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from coordinator.rpc.serving.call import Handler
from coordinator.rpc.serving.connection import Connection, ConnectionTiming
from coordinator.rpc.serving.metadata import RequestHead
from pki.tls.material import TlsMaterial
from pki.x509.identity import Identity, Role
from zkp.daemon.acceptor import BACKLOG, TlsAcceptor
from zkp.daemon.admission import NoPlaceError, Places
from zkp.daemon.bounded_log import BoundedLog
from zkp.daemon.heap import trim_heap
from zkp.daemon.listening import listen

log = logging.getLogger("zkp.coordinator")

MAX_CALLS = 16_384
_MAX_HELD_BYTES = 512 << 20  # of requests and responses, for all connections
HANDSHAKE_TIMEOUT_S = 10.0
_RESERVED, _RESERVED_FOR = 32, frozenset({Role.ADMIN, Role.COORDINATOR})
_CLOSE_S = 1.0  # for the last bytes of a connection
_BUFFER_BYTES = 64 * 1024
_TRIM_AFTER_BYTES = 32 << 20


@dataclass(slots=True)
class CallDetails:
    """The parameter of `grpc.GenericRpcHandler.service`."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...] = ()


class GrpcServer:
    """Serves the handlers of `handlers` from `start` to `stop`."""

    def __init__(
        self,
        handlers: grpc.GenericRpcHandler,
        *,
        on_refused: Callable[[str], None] = lambda _: None,
        timing: ConnectionTiming | None = None,
        max_calls: int = MAX_CALLS,
    ) -> None:
        """Prepare.

        Args:
            handlers: Finds the handler of a method.
            on_refused: Called for each refused TLS handshake with its reason.
            timing: Keepalive and age of connections.
            max_calls: Calls in progress, of all connections together.
        """
        self.buffer = memoryview(bytearray(_BUFFER_BYTES))
        self.timing = timing or ConnectionTiming()
        self._handlers = handlers
        self._on_refused = on_refused
        self._max_calls = max_calls
        self._calls = 0
        self._held = self._most_held = 0
        total = max(2, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)  # the others are for the other ports
        self._places: Places[Connection] = Places(total, total // 2, _RESERVED)
        self._connections: set[Connection] = set()
        self._all_closed = asyncio.Event()
        self._all_closed.set()
        self._acceptor: TlsAcceptor | None = None
        self._log = BoundedLog(log, time.monotonic)

    async def start(self, host: str, port: int, material: TlsMaterial) -> int:
        """Listen, and return the port. Raises OSError."""
        listening = await listen(host, port, backlog=BACKLOG)
        bound: int = listening.getsockname()[1]
        self._acceptor = TlsAcceptor(
            listening,
            material.http2_server_context(),
            lambda: Connection(self),
            on_refused=self._on_refused,
            speaks_http=False,
            called="a gRPC connection",
            handshake_seconds=HANDSHAKE_TIMEOUT_S,
        )
        self._acceptor.start()
        return bound

    async def stop(self, grace_s: float) -> None:
        """Take no new calls; after `grace_s` seconds end those that are still open, and close."""
        if self._acceptor is not None:
            await self._acceptor.stop()
        for connection in list(self._connections):
            connection.drain()
        if not await self._closed_within(grace_s):
            for connection in list(self._connections):
                connection.end_calls(grpc.StatusCode.UNAVAILABLE, "the server is shutting down")
        if not await self._closed_within(min(grace_s, _CLOSE_S)):
            for connection in list(self._connections):
                connection.abort()
            await self._closed_within(_CLOSE_S)

    async def _closed_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._all_closed.wait()
        except TimeoutError:
            return False
        return True

    # ------------------------------------------------------------ called by connections

    def find_handler(self, head: RequestHead) -> Handler | None:
        """Return the handler of a method; None if it is unknown."""
        return self._handlers.service(CallDetails(head.method))

    def take_call(self) -> bool:
        """Count a new call; False when there are as many as may be."""
        if self._calls >= self._max_calls:
            return False
        self._calls += 1
        return True

    def end_call(self) -> None:
        """Count the end of a call."""
        self._calls -= 1

    def admit(self, connection: Connection, identity: Identity | None, source: str) -> bool:
        """Give a new connection a place, that of an idle one if necessary; False if all are busy."""
        self._connections.add(connection)
        self._all_closed.clear()
        holder = source if identity is None else identity.uri
        privileged = identity is not None and identity.role in _RESERVED_FOR
        now = asyncio.get_running_loop().time()
        try:
            displaced = self._places.take(connection, holder, now, privileged=privileged)
        except NoPlaceError:
            self.warn(f"refused a gRPC connection: all those that {holder} may have are busy", connection.peer)
            return False
        if displaced is not None:
            displaced.drain()
        return True

    def on_busy(self, connection: Connection) -> None:
        """The connection has a call: it is not displaced."""
        self._places.work(connection)

    def on_idle(self, connection: Connection) -> None:
        """The connection has no calls: a new connection may take its place."""
        self._places.rest(connection, asyncio.get_running_loop().time())

    def on_closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._places.leave(connection)
        self._connections.discard(connection)
        if not self._connections:
            self._all_closed.set()

    def on_held(self, change: int) -> None:
        """Add to the bytes that connections hold, and close the largest beyond the limit."""
        self._held += change
        self._most_held = max(self._most_held, self._held)
        if self._held > _MAX_HELD_BYTES:
            largest = max(self._connections, key=lambda connection: connection.held, default=None)
            if largest is not None:
                self.warn(
                    f"closed the gRPC connection of {largest.peer}: all connections together hold "
                    f"{self._held >> 20} MiB, and it the most",
                    largest.peer,
                )
                largest.abort()
        elif self._most_held - self._held > _TRIM_AFTER_BYTES:
            self._most_held = self._held
            trim_heap()

    def warn(self, text: str, peer: str) -> None:
        """Log a warning that a peer can cause, in bounded numbers."""
        self._log.warning(text, peer)
