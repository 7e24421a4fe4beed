"""Accepts TCP connections and performs their TLS handshakes, concurrently and with a deadline, and reports refusals.

The TLS server of an event loop closes a refused connection without a log line and without the alert with the reason.
This one logs the reason with the peer's address, sends the alert, and answers plain HTTP with an explanation.

Unauthenticated peers cannot exhaust it. A connection is cheap until its first TLS record is complete: until then it
waits in one of many slots, and only then takes one of the few slots for handshakes. Both kinds of slot are bounded,
in total and per source address; when they run out, the connection that has been idle longest is closed (`admission`).
Reserved slots exist for sources of authenticated peers and for configured sources.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import resource
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from pki.tls.material import PolicyCheckedObject, refusal_of
from zkp.daemon.admission import Places, source_of
from zkp.daemon.bounded_log import BoundedLog
from zkp.daemon.listening import peer_text
from zkp.daemon.problems import CONTENT_TYPE, ProblemKind

log = logging.getLogger("zkp.daemon")

HANDSHAKE_TIMEOUT_S = 5.0
BACKLOG = 4096
"""Length of the kernel's accept queue; the kernel limits it to net.core.somaxconn."""
MAX_WAITING = 2048
"""Connections whose first record is incomplete, or that wait for a slot for their handshake."""
MAX_HANDSHAKES = 64
"""Concurrent handshakes; more would not finish sooner, since they are bound by CPU."""
RESERVED = 64
"""Additional slots of either kind for known sources."""
STALLED_S = 1.0
"""A handshake whose peer has sent nothing for this long is closed when others wait."""

_KNOWN_SOURCES = 4096
_RECHECK_S = 0.1
_MAX_RECHECKED = 64  # waiting connections per check
_DESCRIPTORS_PER_WAITING = 8  # at most an eighth of the process's file descriptors
_ACCEPT_RETRY_S = 0.2  # when the process is out of file descriptors
_TLS_SHUTDOWN_S = 1.0
_TLS_HANDSHAKE_RECORD = b"\x16"  # RFC 8446, section 5.1
_HEADER_BYTES = 5  # of a record: type, version, length
_MAX_RECORD_BYTES = _HEADER_BYTES + 16384
_PLAIN_HTTP_PROBLEM = ProblemKind("https-required", 400, "This port accepts HTTPS only")
_PLAIN_HTTP_BODY = json.dumps(_PLAIN_HTTP_PROBLEM.document("the request is plain HTTP; use https://")).encode()
_PLAIN_HTTP_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: %b\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
    % (CONTENT_TYPE.encode(), len(_PLAIN_HTTP_BODY), _PLAIN_HTTP_BODY)
)
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it showed no client certificate",
    "UNSUPPORTED_PROTOCOL": "it does not offer TLS 1.3",
    "NO_SHARED_CIPHER": "it does not offer a cipher of TLS 1.3",
}


class _HandshakeFailed(ssl.SSLError):
    """A failed handshake, with the TLS alert for the peer."""

    def __init__(self, cause: ssl.SSLError, alert: bytes) -> None:
        super().__init__(*cause.args)
        self.cause = cause
        self.alert = alert


class _AlertingObject(PolicyCheckedObject):
    """Stores the alert of a failed handshake, which asyncio and uvloop discard with the connection."""

    _outgoing: ssl.MemoryBIO

    @classmethod
    def _create(cls, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, **options: Any) -> Self:  # noqa: ANN401
        made: Self = super()._create(incoming, outgoing, **options)  # type: ignore[misc]  # the stubs leave it out
        made._outgoing = outgoing
        return made

    def do_handshake(self) -> None:
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as error:
            raise _HandshakeFailed(error, self._outgoing.read()) from error


async def _accept_tls(
    connection: socket.socket, context: ssl.SSLContext, protocol: asyncio.BaseProtocol, handshake_seconds: float
) -> asyncio.Transport:
    """Perform the TLS handshake of an accepted connection, and connect it to its protocol.

    The event loop owns the connection from here on, and closes it on errors.

    Raises:
        ssl.SSLError: The handshake failed; its alert has been sent.
        OSError: The peer closed the connection, or was too slow (TimeoutError).
    """
    context.sslobject_class = _AlertingObject  # read at the start of each connection, so that it survives reloads
    try:
        spare = connection.dup()
    except OSError:
        connection.close()
        raise
    # The event loop closes its socket when a handshake fails; the alert is sent through a duplicate.
    with spare:
        try:
            # The returned protocol is the application's with asyncio, and the TLS layer's with uvloop.
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=context,
                ssl_handshake_timeout=handshake_seconds,
                ssl_shutdown_timeout=_TLS_SHUTDOWN_S,
            )
        except _HandshakeFailed as refusal:
            with contextlib.suppress(OSError):  # the peer may have closed the connection
                spare.send(refusal.alert)
                spare.shutdown(socket.SHUT_WR)
            raise refusal.cause from None
    return transport


OnConnected = Callable[[asyncio.Transport, asyncio.BaseProtocol, str, str], None]
"""Called after each handshake with the transport, the protocol, the source (`admission.source_of`) and the address
for the log."""


class TlsAcceptor:
    """TLS server for `protocol_factory` on a listening socket, which it owns."""

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *,
        on_connected: OnConnected = lambda *_: None,
        on_refused: Callable[[str], None] = lambda _: None,
        expected: Callable[[str], bool] = lambda _: False,
        speaks_http: bool = True,
        called: str = "a connection",
        handshake_seconds: float | None = None,
    ) -> None:
        """Prepare; `start` begins to accept.

        Args:
            listening: Listening socket.
            context: TLS context.
            protocol_factory: Makes the protocol of each connection.
            on_connected: Called after each handshake.
            on_refused: Called for each refusal with a `RejectReason` of pki, or "handshake" if it was not finished.
            expected: Whether a source is configured, and therefore known before a peer has authenticated from it.
            speaks_http: Answer plain HTTP with an explanation.
            called: Noun for a connection in the log.
            handshake_seconds: Limit from accept to the end of the handshake; default: HANDSHAKE_TIMEOUT_S.
        """
        listening.setblocking(False)
        self._socket = listening
        self._context = context
        self._protocol_factory = protocol_factory
        self._on_connected = on_connected
        self._on_refused = on_refused
        self._expected = expected
        self._speaks_http = speaks_http
        self._called = called
        self._seconds = HANDSHAKE_TIMEOUT_S if handshake_seconds is None else handshake_seconds
        self._log = BoundedLog(log, time.monotonic)
        waiting = _affordable(MAX_WAITING)
        self._waiting: Places[_PendingConnection] = Places(waiting, max(1, waiting // 2), RESERVED)
        self._handshakes: Places[_PendingConnection] = Places(MAX_HANDSHAKES, max(1, MAX_HANDSHAKES // 2), RESERVED)
        self._pending: set[_PendingConnection] = set()
        self._ready: dict[_PendingConnection, None] = {}
        """Connections whose first record is complete and that wait for a slot for their handshake."""
        self._recheck: asyncio.TimerHandle | None = None
        self._known: dict[str, None] = {}
        self._accepting: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Start to accept connections."""
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def stop(self) -> None:
        """Stop accepting and abort unfinished handshakes. Established connections stay open."""
        self._stopping = True
        tasks = [pending.task for pending in self._pending if pending.task is not None]
        for pending in list(self._pending):
            self._drop(pending)
        if self._recheck is not None:
            self._recheck.cancel()
        if self._accepting is not None:
            self._accepting.cancel()
            tasks.append(self._accepting)
        if tasks:
            await asyncio.wait(tasks)
        self._socket.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(self._socket)
            except ConnectionError:  # the peer closed it before it was accepted
                continue
            except OSError as error:
                log.error("cannot accept connections: %s; retrying", error.strerror)
                await asyncio.sleep(_ACCEPT_RETRY_S)
                continue
            self._receive(_PendingConnection(connection, source_of(address[0]), peer_text(address)))
            await asyncio.sleep(0)  # under load sock_accept never waits, and would starve the handshakes

    # ------------------------------------------------------------ until the first record is complete

    def _receive(self, pending: "_PendingConnection") -> None:
        """Take a slot until the first record is complete; usually it already is."""
        loop = asyncio.get_running_loop()
        self._pending.add(pending)
        pending.deadline = loop.call_later(self._seconds, self._on_timeout, pending)
        self._on_readable(pending)
        if not self._waits(pending):
            return
        if not pending.first_byte:
            loop.add_reader(pending.connection, self._on_readable, pending, True)
            pending.has_reader = True
        displaced = self._waiting.take(
            pending, pending.source, loop.time(), privileged=self._is_known(pending.source)
        )
        if displaced is None:
            return
        self._on_readable(displaced)  # its data may not have been read yet
        if self._waits(displaced):
            self._refuse(displaced, "handshake", "too many connections are waiting, this one for longest")
            self._drop(displaced)

    def _waits(self, pending: "_PendingConnection") -> bool:
        return pending in self._pending and pending.task is None

    def _on_readable(self, pending: "_PendingConnection", woken: bool = False) -> None:
        """Continue with the connection if its first record is complete, or if it was closed.

        Args:
            pending: The connection.
            woken: The kernel reported it as readable. If fewer bytes than requested are available then, the peer has
                closed its side.
        """
        try:
            received = pending.connection.recv(_MAX_RECORD_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:  # closed by the peer
            self._drop(pending)
            return
        wakeup_bytes = _first_record_bytes(received)
        if len(received) < wakeup_bytes and not (woken and len(received) < pending.wakeup_bytes):
            pending.set_wakeup_bytes(wakeup_bytes)
            return
        pending.set_wakeup_bytes(1)
        self._remove_reader(pending)
        pending.first_byte = received[:1]
        self._ready[pending] = None
        self._start_handshake(pending)

    # ------------------------------------------------------------ handshakes

    def _start_handshake(self, pending: "_PendingConnection") -> None:
        """Start the handshake if a slot is free or can be taken over."""
        privileged = self._is_known(pending.source)
        displaced = self._handshakes.displaced_by(pending.source, privileged=privileged)
        if displaced is not None:
            if not displaced.is_stalled():
                if self._recheck is None:
                    self._schedule_recheck(_RECHECK_S)
                return
            self._refuse(displaced, "handshake", "its TLS handshake made no progress, and others wait")
            self._drop(displaced)
        loop = asyncio.get_running_loop()
        del self._ready[pending]
        self._waiting.leave(pending)
        self._handshakes.take(pending, pending.source, loop.time(), privileged=privileged)
        pending.began = loop.time()
        pending.task = loop.create_task(self._handshake(pending))
        pending.task.add_done_callback(lambda _: self._on_task_done(pending))

    def _schedule_recheck(self, in_seconds: float) -> None:
        """Schedule `_start_ready`."""
        if self._recheck is not None:
            self._recheck.cancel()
        self._recheck = asyncio.get_running_loop().call_later(in_seconds, self._start_ready)

    def _start_ready(self) -> None:
        """Start as many handshakes as possible, newest first: the peers that wait longest time out first."""
        self._recheck = None
        for pending in list(itertools.islice(reversed(self._ready), _MAX_RECHECKED)):
            if pending in self._ready:
                self._start_handshake(pending)

    async def _handshake(self, pending: "_PendingConnection") -> None:
        try:
            if pending.first_byte == _TLS_HANDSHAKE_RECORD:
                await self._secure(pending)
            else:
                self._refuse(pending, "broken_tls", "it does not speak TLS")
                if self._speaks_http:
                    await _answer_plain_http(pending.connection, pending.first_byte)
        except OSError as error:
            log.debug("connection lost during the TLS handshake: %s", error, extra={"peer": pending.peer})
        except Exception:
            log.exception("new connection failed", extra={"peer": pending.peer})

    async def _secure(self, pending: "_PendingConnection") -> None:
        pending.transferred = True
        beyond_the_deadline = 2 * self._seconds
        protocol = self._protocol_factory()
        try:
            transport = await _accept_tls(pending.connection, self._context, protocol, beyond_the_deadline)
        except ssl.SSLError as error:
            self._refuse(pending, str(refusal_of(error)), _reason(error))
            return
        if transport.get_extra_info("ssl_object").getpeercert(binary_form=True):
            self._add_known(pending.source)
        self._on_connected(transport, protocol, pending.source, pending.peer)

    # ------------------------------------------------------------ end of a pending connection

    def _on_timeout(self, pending: "_PendingConnection") -> None:
        self._refuse(pending, "handshake", f"it did not finish its TLS handshake within {self._seconds:g} seconds")
        self._drop(pending)

    def _refuse(self, pending: "_PendingConnection", kind: str, reason: str) -> None:
        self._log.warning(f"refused {self._called} from {pending.peer}: {reason}", pending.peer)
        self._on_refused(kind)

    def _remove_reader(self, pending: "_PendingConnection") -> None:
        """Stop waiting for data."""
        if pending.has_reader:
            pending.has_reader = False
            asyncio.get_running_loop().remove_reader(pending.connection)

    def _drop(self, pending: "_PendingConnection") -> None:
        """Remove the connection: close it, or cancel its handshake. Idempotent."""
        if pending not in self._pending:
            return
        self._pending.remove(pending)
        if pending.deadline is not None:
            pending.deadline.cancel()
        self._remove_reader(pending)
        self._ready.pop(pending, None)
        self._waiting.leave(pending)
        self._handshakes.leave(pending)
        if self._ready and not self._stopping:
            self._schedule_recheck(0)
        if pending.task is None:
            pending.connection.close()
        else:
            pending.task.cancel()

    def _on_task_done(self, pending: "_PendingConnection") -> None:
        """Clean up after the task, which may have been cancelled before it started."""
        self._drop(pending)
        if not pending.transferred:
            pending.connection.close()

    # ------------------------------------------------------------ known sources

    def _is_known(self, source: str) -> bool:
        return source in self._known or self._expected(source)

    def _add_known(self, source: str) -> None:
        self._known.pop(source, None)
        self._known[source] = None
        if len(self._known) > _KNOWN_SOURCES:
            del self._known[next(iter(self._known))]


@dataclass(slots=True, eq=False)
class _PendingConnection:
    """An accepted connection before the end of its handshake.

    The acceptor closes its socket unless the event loop owns it (`transferred`).
    """

    connection: socket.socket
    source: str
    peer: str
    wakeup_bytes: int = 1
    """Number of available bytes at which the kernel reports the socket as readable."""
    has_reader: bool = False
    first_byte: bytes = b""
    transferred: bool = False
    began: float = 0.0
    """Loop time of the start of the handshake."""
    deadline: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None

    def is_stalled(self) -> bool:
        """Return whether the handshake has been waiting for the peer, not for this process, for long."""
        if asyncio.get_running_loop().time() - self.began < STALLED_S:
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def set_wakeup_bytes(self, size: int) -> None:
        """Set the low-water mark (SO_RCVLOWAT), so that a record that is sent slowly causes one wake-up only."""
        if size != self.wakeup_bytes:
            self.wakeup_bytes = size
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)


def _first_record_bytes(received: bytes) -> int:
    """Return the size of the first TLS record as far as it is known, or 1 if it is not a valid one."""
    if received[:1] != _TLS_HANDSHAKE_RECORD:
        return 1
    if len(received) < _HEADER_BYTES:
        return _HEADER_BYTES
    size = _HEADER_BYTES + int.from_bytes(received[3:_HEADER_BYTES])
    return size if size <= _MAX_RECORD_BYTES else 1


def _affordable(connections: int) -> int:
    """Return `connections`, limited to a share of the process's file descriptors."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(connections, limit // _DESCRIPTORS_PER_WAITING))


async def _answer_plain_http(connection: socket.socket, first_byte: bytes) -> None:
    """Answer plain HTTP with an explanation; other protocols get no answer."""
    if not first_byte.isalpha():
        return
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, _PLAIN_HTTP_ANSWER)
    connection.shutdown(socket.SHUT_WR)
    with contextlib.suppress(TimeoutError):  # unread bytes would reset the connection and lose the answer
        async with asyncio.timeout(_TLS_SHUTDOWN_S):
            while await loop.sock_recv(connection, 65536):
                pass


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify ({error.verify_message})"
    reason = getattr(error, "reason", None) or "invalid TLS"
    if "ALERT" in reason:
        return f"it refused this node's certificate or TLS ({reason.lower().replace('_', ' ')})"
    return _REASONS.get(reason, f"its TLS is not acceptable ({reason.lower().replace('_', ' ')})")
