"""Takes TCP connections to TLS, each by itself and within a deadline, and says on both sides why it refused.

An event loop's own TLS server drops a refused peer without a log line and without the alert that would tell
the peer why. This one logs the reason with the peer's address, sends the alert, and tells a browser that
speaks plain HTTP what is wrong. A connection that is silent blocks nobody: handshakes run side by side, and
when too many are open the oldest, which is the one that does not progress, makes room.
"""

import asyncio
import contextlib
import json
import logging
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from daemon.listening import peer_text
from daemon.problems import CONTENT_TYPE, Kind
from pki.tls import AdmittedObject

log = logging.getLogger("zkp.daemon")

HANDSHAKE_SECONDS = 5.0
MAX_HANDSHAKES = 256

_PAUSE_SECONDS = 0.2  # when the process is out of file descriptors
_GOODBYE_SECONDS = 1.0
_TLS_HANDSHAKE_RECORD = b"\x16"  # RFC 8446, section 5.1
_PLAIN_HTTP_PROBLEM = Kind("https-required", 400, "This port accepts HTTPS only")
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


class _AlertingObject(AdmittedObject):
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


async def secure(
    connection: socket.socket,
    context: ssl.SSLContext,
    protocol_factory: Callable[[], asyncio.BaseProtocol],
    handshake_seconds: float,
) -> None:
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
            await asyncio.get_running_loop().connect_accepted_socket(
                protocol_factory,
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


class TlsAcceptor:
    """Serves `protocol_factory` over TLS on a listening socket, which it owns."""

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *,
        has_room: Callable[[], bool] = lambda: True,
    ) -> None:
        """has_room: whether one more connection may be served; those beyond are closed at once."""
        listening.setblocking(False)
        self._socket = listening
        self._context = context
        self._protocol_factory = protocol_factory
        self._has_room = has_room
        self._crowded = False
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self._accepting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Accept from now on."""
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    async def stop(self) -> None:
        """Accept no more and drop unfinished handshakes. Connections that were handed over go on."""
        tasks = [task for task in (self._accepting, *self._handshakes) if task is not None]
        for task in tasks:
            task.cancel()
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
                log.error("cannot accept connections, trying on: %s", error.strerror)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            if not self._admits_more():
                connection.close()
                await asyncio.sleep(0)
                continue
            if len(self._handshakes) >= MAX_HANDSHAKES:
                next(iter(self._handshakes)).cancel()
            guest = _Guest(connection, peer_text(address))
            task = loop.create_task(self._admit(guest))
            self._handshakes[task] = None
            task.add_done_callback(self._handshakes.pop)
            task.add_done_callback(guest.leave)
            await asyncio.sleep(0)  # under a flood sock_accept never waits, and would starve the handshakes

    def _admits_more(self) -> bool:
        """Said once for each time that it gets crowded, not once for each connection."""
        crowded = not self._has_room()
        if crowded and not self._crowded:
            log.error("as many connections are open as may be: further ones are closed at once")
        self._crowded = crowded
        return not crowded

    async def _admit(self, guest: "_Guest") -> None:
        try:
            async with asyncio.timeout(HANDSHAKE_SECONDS):
                beginning = await _peek(guest.connection)
                if beginning[:1] == _TLS_HANDSHAKE_RECORD:
                    await self._secure(guest)
                elif beginning:
                    guest.refused("it does not speak TLS")
                    await _answer_plainly(guest.connection, beginning)
        except TimeoutError:
            guest.refused(f"it did not finish its TLS handshake within {HANDSHAKE_SECONDS:g} seconds")
        except OSError as error:
            log.debug("connection lost before it was secure: %s", error, extra={"peer": guest.peer})

    async def _secure(self, guest: "_Guest") -> None:
        guest.handed_over = True
        try:
            never_before_the_deadline = 2 * HANDSHAKE_SECONDS
            await secure(guest.connection, self._context, self._protocol_factory, never_before_the_deadline)
        except ssl.SSLError as error:
            guest.refused(_reason(error))


@dataclass(slots=True)
class _Guest:
    """An accepted connection. Its socket is closed here unless the event loop has taken it over."""

    connection: socket.socket
    peer: str
    handed_over: bool = False

    def leave(self, _: object) -> None:
        """The handshake's task is done, be it cancelled before it began."""
        if not self.handed_over:
            self.connection.close()

    def refused(self, reason: str) -> None:
        log.warning("refused a connection from %s: %s", self.peer, reason, extra={"peer": self.peer})


async def _peek(connection: socket.socket) -> bytes:
    """The first bytes that the peer sends, left in place; empty when it goes away."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            readable = asyncio.Event()
            loop.add_reader(connection, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(connection)


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
    reason = getattr(error, "reason", None) or "broken TLS"
    if "ALERT" in reason:
        return f"it refused this node's certificate or TLS ({reason.lower().replace('_', ' ')})"
    return _REASONS.get(reason, f"its TLS is not acceptable ({reason.lower().replace('_', ' ')})")
