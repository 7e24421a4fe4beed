"""Takes TCP connections to TLS, each by itself and within a deadline, and says on both sides why it refused.

An event loop's own TLS server drops a refused peer without a log line and without the alert that would tell
the peer why. This one logs the reason with the peer's address, sends the alert, and tells a browser that
speaks plain HTTP what is wrong.

Strangers keep nobody out. A connection costs next to nothing until its first TLS record is there in full: it waits
among many, and only then gets one of the few places in which handshakes run. Both kinds of place are bounded, in
total and for each source address; when they run out, the one that has been silent longest gives way (`admission`).
Sources from which an authenticated peer has come, and those that are configured, have places of their own.
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

HANDSHAKE_SECONDS = 5.0
BACKLOG = 4096
"""Connections that the kernel holds until they are accepted; it cuts this to net.core.somaxconn."""
MAX_WAITING = 2048
"""Connections that have sent nothing yet, or that wait for a place for their handshake."""
MAX_HANDSHAKES = 64
"""At a time: more would not be done sooner, each being work for the processor."""
RESERVED = 64
"""Places of either kind for known sources, beyond the others."""
STUCK_S = 1.0
"""A handshake whose peer has sent nothing for so long gives way when others wait."""

_KNOWN_SOURCES = 4096
_LOOK_S = 0.1
_LOOKED_AT = 64  # of those that wait, at one look
_DESCRIPTORS_PER_WAITING = 8  # of the process's limit, one in eight may wait
_PAUSE_SECONDS = 0.2  # when the process is out of file descriptors
_GOODBYE_SECONDS = 1.0
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


class _Refusal(ssl.SSLError):
    """A failed handshake with the alert that tells the peer."""

    def __init__(self, cause: ssl.SSLError, alert: bytes) -> None:
        super().__init__(*cause.args)
        self.cause = cause
        self.alert = alert


class _AlertingObject(PolicyCheckedObject):
    """Keeps the alert of a failed handshake, which asyncio and uvloop throw away with the connection."""

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
            raise _Refusal(error, self._outgoing.read()) from error


async def _secure(
    connection: socket.socket, context: ssl.SSLContext, protocol: asyncio.BaseProtocol, handshake_seconds: float
) -> asyncio.Transport:
    """Finish the TLS handshake of an accepted connection and hand it to its protocol.

    The event loop owns the connection from here on, and closes it when this raises: ssl.SSLError when the handshake
    failed, whose alert has then been sent; OSError or TimeoutError when the peer went away or is too slow.
    """
    context.sslobject_class = _AlertingObject  # asked for at each connection's start: outlives reloads
    try:
        spare = connection.dup()
    except OSError:
        connection.close()
        raise
    # The event loop closes its socket once a handshake fails; the alert leaves through a second one.
    with spare:
        try:
            # The protocol that comes back is the application's with asyncio, and the TLS layer's with uvloop.
            transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=context,
                ssl_handshake_timeout=handshake_seconds,
                ssl_shutdown_timeout=_GOODBYE_SECONDS,
            )
        except _Refusal as refusal:
            with contextlib.suppress(OSError):  # it may be gone, having refused this side
                spare.send(refusal.alert)
                spare.shutdown(socket.SHUT_WR)
            raise refusal.cause from None
    return transport


Welcome = Callable[[asyncio.Transport, asyncio.BaseProtocol, str, str], None]
"""Told of each connection whose handshake is done: its transport, its protocol, its source (`admission.source_of`),
and its address for the log."""


class TlsAcceptor:
    """Serves `protocol_factory` over TLS on a listening socket, which it owns."""

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *,
        welcome: Welcome = lambda *_: None,
        on_refused: Callable[[str], None] = lambda _: None,
        expected: Callable[[str], bool] = lambda _: False,
        speaks_http: bool = True,
        called: str = "a connection",
        handshake_seconds: float | None = None,
    ) -> None:
        """on_refused: told why, in pki's words (`Refusal`), or "handshake": it did not finish one.

        expected: whether a source is configured, and thereby known before it has authenticated anyone.
        speaks_http: tell clients of plain HTTP so. called: what is refused, in the log.
        handshake_seconds: from accepting on; HANDSHAKE_SECONDS when None.
        """
        listening.setblocking(False)
        self._socket = listening
        self._context = context
        self._protocol_factory = protocol_factory
        self._welcome = welcome
        self._on_refused = on_refused
        self._expected = expected
        self._speaks_http = speaks_http
        self._called = called
        self._seconds = HANDSHAKE_SECONDS if handshake_seconds is None else handshake_seconds
        self._log = BoundedLog(log, time.monotonic)
        waiting = _affordable(MAX_WAITING)
        self._waiting: Places[_PendingConnection] = Places(waiting, max(1, waiting // 2), RESERVED)
        self._handshakes: Places[_PendingConnection] = Places(MAX_HANDSHAKES, max(1, MAX_HANDSHAKES // 2), RESERVED)
        self._guests: set[_PendingConnection] = set()
        self._ready: dict[_PendingConnection, None] = {}
        """Those whose first record is there, while no place for their handshake is."""
        self._looking: asyncio.TimerHandle | None = None
        self._known: dict[str, None] = {}
        self._accepting: asyncio.Task[None] | None = None
        self._stopping = False

    def start(self) -> None:
        """Accept from now on."""
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def stop(self) -> None:
        """Accept no further connections and drop unfinished handshakes. Those that were handed over go on."""
        self._stopping = True
        tasks = [guest.task for guest in self._guests if guest.task is not None]
        for guest in list(self._guests):
            self._drop(guest)
        if self._looking is not None:
            self._looking.cancel()
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
            except ConnectionError:  # it went away before it was accepted
                continue
            except OSError as error:
                log.error("cannot accept connections: %s; trying again", error.strerror)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            self._receive(_PendingConnection(connection, source_of(address[0]), peer_text(address)))
            await asyncio.sleep(0)  # under a flood sock_accept never waits, and would starve the handshakes

    # ------------------------------------------------------------ until its first record is there

    def _receive(self, guest: "_PendingConnection") -> None:
        """Let it wait for its place, which most need not: their first record has come with the connection."""
        loop = asyncio.get_running_loop()
        self._guests.add(guest)
        guest.deadline = loop.call_later(self._seconds, self._too_slow, guest)
        self._hear(guest)
        if not self._waits(guest):
            return
        if not guest.beginning:
            loop.add_reader(guest.connection, self._hear, guest, True)
            guest.has_reader = True
        displaced = self._waiting.take(guest, guest.source, loop.time(), privileged=self._is_known(guest.source))
        if displaced is None:
            return
        self._hear(displaced)  # what it has sent may not have been looked at yet
        if self._waits(displaced):
            self._refuse(displaced, "handshake", "too many connections wait, this one for longest")
            self._drop(displaced)

    def _waits(self, guest: "_PendingConnection") -> bool:
        return guest in self._guests and guest.task is None

    def _hear(self, guest: "_PendingConnection", woken: bool = False) -> None:
        """Go on with the connection if its first record is there in full, or if it has ended.

        woken: the kernel says that there is something. If that is less than was asked for, no more will come.
        """
        try:
            said = guest.connection.recv(_MAX_RECORD_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        if not said:  # it went away
            self._drop(guest)
            return
        wanted = _first_record_bytes(said)
        if len(said) < wanted and not (woken and len(said) < guest.wanted):
            guest.want(wanted)
            return
        guest.want(1)
        self._deafen(guest)
        guest.beginning = said[:1]
        self._ready[guest] = None
        self._begin(guest)

    # ------------------------------------------------------------ handshakes

    def _begin(self, guest: "_PendingConnection") -> None:
        """Start the handshake if there is a place for it."""
        privileged = self._is_known(guest.source)
        displaced = self._handshakes.displaced_by(guest.source, privileged=privileged)
        if displaced is not None:
            if not displaced.is_stuck():
                if self._looking is None:
                    self._begin_others(_LOOK_S)
                return
            self._refuse(displaced, "handshake", "its TLS handshake did not progress, and others wait")
            self._drop(displaced)
        loop = asyncio.get_running_loop()
        del self._ready[guest]
        self._waiting.leave(guest)
        self._handshakes.take(guest, guest.source, loop.time(), privileged=privileged)
        guest.began = loop.time()
        guest.task = loop.create_task(self._admit(guest))
        guest.task.add_done_callback(lambda _: self._ended(guest))

    def _begin_others(self, in_seconds: float) -> None:
        """Look again after those whose first record is there."""
        if self._looking is not None:
            self._looking.cancel()
        self._looking = asyncio.get_running_loop().call_later(in_seconds, self._begin_ready)

    def _begin_ready(self) -> None:
        """Start what can be started, newest first: those who have waited longest have given up first."""
        self._looking = None
        for guest in list(itertools.islice(reversed(self._ready), _LOOKED_AT)):
            if guest in self._ready:
                self._begin(guest)

    async def _admit(self, guest: "_PendingConnection") -> None:
        try:
            if guest.beginning == _TLS_HANDSHAKE_RECORD:
                await self._secure(guest)
            else:
                self._refuse(guest, "broken_tls", "it does not speak TLS")
                if self._speaks_http:
                    await _answer_plainly(guest.connection, guest.beginning)
        except OSError as error:
            log.debug("connection lost before it was secure: %s", error, extra={"peer": guest.peer})
        except Exception:
            log.exception("a new connection could not be served", extra={"peer": guest.peer})

    async def _secure(self, guest: "_PendingConnection") -> None:
        guest.handed_over = True
        never_before_the_deadline = 2 * self._seconds
        protocol = self._protocol_factory()
        try:
            transport = await _secure(guest.connection, self._context, protocol, never_before_the_deadline)
        except ssl.SSLError as error:
            self._refuse(guest, str(refusal_of(error)), _reason(error))
            return
        if transport.get_extra_info("ssl_object").getpeercert(binary_form=True):
            self._remember(guest.source)
        self._welcome(transport, protocol, guest.source, guest.peer)

    # ------------------------------------------------------------ the end of a guest

    def _too_slow(self, guest: "_PendingConnection") -> None:
        self._refuse(guest, "handshake", f"it did not finish its TLS handshake within {self._seconds:g} seconds")
        self._drop(guest)

    def _refuse(self, guest: "_PendingConnection", kind: str, reason: str) -> None:
        self._log.warning(f"refused {self._called} from {guest.peer}: {reason}", guest.peer)
        self._on_refused(kind)

    def _deafen(self, guest: "_PendingConnection") -> None:
        """Do not wait any longer for something to be said."""
        if guest.has_reader:
            guest.has_reader = False
            asyncio.get_running_loop().remove_reader(guest.connection)

    def _drop(self, guest: "_PendingConnection") -> None:
        """Forget it: close it, or end its handshake. Harmless when repeated."""
        if guest not in self._guests:
            return
        self._guests.remove(guest)
        if guest.deadline is not None:
            guest.deadline.cancel()
        self._deafen(guest)
        self._ready.pop(guest, None)
        self._waiting.leave(guest)
        self._handshakes.leave(guest)
        if self._ready and not self._stopping:
            self._begin_others(0)
        if guest.task is None:
            guest.connection.close()
        else:
            guest.task.cancel()

    def _ended(self, guest: "_PendingConnection") -> None:
        """Its task is done, be it cancelled before it began."""
        self._drop(guest)
        if not guest.handed_over:
            guest.connection.close()

    # ------------------------------------------------------------ known sources

    def _is_known(self, source: str) -> bool:
        return source in self._known or self._expected(source)

    def _remember(self, source: str) -> None:
        self._known.pop(source, None)
        self._known[source] = None
        if len(self._known) > _KNOWN_SOURCES:
            del self._known[next(iter(self._known))]


@dataclass(slots=True, eq=False)
class _PendingConnection:
    """An accepted connection. Its socket is closed here unless the event loop has taken it over."""

    connection: socket.socket
    source: str
    peer: str
    wanted: int = 1
    """Bytes with which the kernel is to wake us up."""
    has_reader: bool = False
    beginning: bytes = b""
    handed_over: bool = False
    began: float = 0.0
    """Loop time of the handshake's start."""
    deadline: asyncio.TimerHandle | None = None
    task: asyncio.Task[None] | None = None

    def is_stuck(self) -> bool:
        """Whether its handshake waits for the peer, and that for long. Bytes that are there wait for this process."""
        if asyncio.get_running_loop().time() - self.began < STUCK_S:
            return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def want(self, size: int) -> None:
        """Have the kernel wait until there are this many bytes: half a record, sent slowly, wakes nobody up."""
        if size != self.wanted:
            self.wanted = size
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)


def _first_record_bytes(said: bytes) -> int:
    """How many bytes the first TLS record has, as far as `said` tells; 1 when it is none that could be waited for."""
    if said[:1] != _TLS_HANDSHAKE_RECORD:
        return 1
    if len(said) < _HEADER_BYTES:
        return _HEADER_BYTES
    size = _HEADER_BYTES + int.from_bytes(said[3:_HEADER_BYTES])
    return size if size <= _MAX_RECORD_BYTES else 1


def _affordable(connections: int) -> int:
    """At most that share of the process's file descriptors."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(connections, limit // _DESCRIPTORS_PER_WAITING))


async def _answer_plainly(connection: socket.socket, beginning: bytes) -> None:
    """Tell a client that speaks plain HTTP; anything else would not understand."""
    if not beginning.isalpha():
        return
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(connection, _PLAIN_HTTP_ANSWER)
    connection.shutdown(socket.SHUT_WR)
    with contextlib.suppress(TimeoutError):  # unread bytes would reset the connection and lose the answer
        async with asyncio.timeout(_GOODBYE_SECONDS):
            while await loop.sock_recv(connection, 65536):
                pass


def _reason(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate does not verify ({error.verify_message})"
    reason = getattr(error, "reason", None) or "invalid TLS"
    if "ALERT" in reason:
        return f"it refused this node's certificate or TLS ({reason.lower().replace('_', ' ')})"
    return _REASONS.get(reason, f"its TLS is not acceptable ({reason.lower().replace('_', ' ')})")
