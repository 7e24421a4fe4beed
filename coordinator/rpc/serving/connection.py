"""One connection of the gRPC server: the bridge between a TLS transport, an HTTP/2 session and its calls."""

import asyncio
import logging
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import SystemRandom
from typing import Protocol, cast

import grpc

from coordinator.rpc.http2 import (
    DataReceived,
    ErrorCode,
    Event,
    Http2Error,
    Http2Session,
    PingReceived,
    RequestReceived,
    RequestRejected,
    StreamClosed,
    StreamEnded,
)
from coordinator.rpc.http2.events import Headers
from coordinator.rpc.http2.session import HeaderBlock
from coordinator.rpc.serving.call import Call, Handler
from coordinator.rpc.serving.metadata import BadRequestHead, HttpError, RequestHead, encode_status, read_head
from pki.tls.material import IdentityError, auth_context_of, peer_certificate
from pki.x509.identity import Identity
from zkp.daemon.admission import source_of
from zkp.daemon.listening import peer_text

log = logging.getLogger("zkp.coordinator")

ALPN = "h2"

_FLUSH_BYTES = 64 * 1024
_MAX_WRITE_BUFFER_BYTES = 256 * 1024
_MAX_CONNECTION_BYTES = 64 << 20  # of requests and responses, per connection
_PREFACE_TIMEOUT_S = 10.0
_REQUEST_TIMEOUT_S = 30.0
_LAST_PING_TIMEOUT_S = 1.0
_MAX_PING_STRIKES = 4
_MIN_PING_INTERVAL_S = 5.0
_RANDOM = SystemRandom()


@dataclass(frozen=True, slots=True)
class ConnectionTiming:
    """Times in seconds: a PING after so long without data, its answer, the age of a connection, the time to drain."""

    keepalive_s: float = 20.0
    keepalive_timeout_s: float = 10.0
    max_age_s: float = 3600.0
    age_grace_s: float = 60.0


class ConnectionOwner(Protocol):
    """The server of a connection."""

    buffer: memoryview
    timing: ConnectionTiming

    def find_handler(self, head: RequestHead) -> Handler | None:
        """Return the handler of a method; None if it is unknown."""
        ...

    def take_call(self) -> bool:
        """Count a new call; False when the server has as many as it may."""
        ...

    def end_call(self) -> None:
        """Count the end of a call."""
        ...

    def admit(self, connection: "Connection", identity: Identity | None, source: str) -> bool:
        """Give a new connection a place; False if there is none."""
        ...

    def on_busy(self, connection: "Connection") -> None:
        """The connection has a call now."""
        ...

    def on_idle(self, connection: "Connection") -> None:
        """The connection has no call any more."""
        ...

    def on_closed(self, connection: "Connection") -> None:
        """The connection is closed."""
        ...

    def on_held(self, change: int) -> None:
        """The bytes that a connection holds have changed by so much."""
        ...

    def warn(self, text: str, peer: str) -> None:
        """Log a warning that a peer can cause, in bounded numbers."""
        ...


class Connection(asyncio.BufferedProtocol):
    """An HTTP/2 connection with an authenticated peer."""

    def __init__(self, owner: ConnectionOwner) -> None:
        self.session: Http2Session
        self.peer = ""
        self.auth_context: Mapping[str, Sequence[bytes]] = {}
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, Call] = {}
        self._held = self._request_bytes = 0
        self._writers: list[Call] = []
        """Calls whose handlers wait until their responses are sent."""
        self._paused = False
        self._flushing = False
        self._closed = False
        self._ignores_input = False
        """Whether the connection was refused or has failed, and only its last bytes are still sent."""
        self._draining = self._closing = False
        self._unanswered_pings = 0
        self._received_at = self._loop.time()
        self._timers: list[asyncio.TimerHandle] = []
        self._keepalive: asyncio.TimerHandle | None = None
        self._ping_strikes = 0
        self._pinged_at = float("-inf")
        self._sent_since_ping = False

    # ------------------------------------------------------------ transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to serve; the TLS handshake is finished."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=_MAX_WRITE_BUFFER_BYTES)
        self.session = Http2Session()
        address = transport.get_extra_info("peername")
        self.peer = peer_text(address)
        tls = transport.get_extra_info("ssl_object")
        self.auth_context = auth_context_of(tls)
        if not self._owner.admit(self, _identity_behind(tls), source_of(address[0])):
            self._ignores_input = True
            self._transport.abort()
            return
        if tls.selected_alpn_protocol() != ALPN:
            self._owner.warn(
                f"refused a gRPC connection from {self.peer}: it does not offer HTTP/2 (ALPN h2)", self.peer
            )
            self._ignores_input = True
            self._transport.close()
            return
        timing = self._owner.timing
        age = timing.max_age_s * _RANDOM.uniform(0.9, 1.1)  # connections opened together are not remade together
        self._timers = [
            self._loop.call_later(_PREFACE_TIMEOUT_S, self._on_preface_timeout),
            self._loop.call_later(age, self._on_max_age),
        ]
        self._keepalive = self._loop.call_later(timing.keepalive_s, self._check_alive)
        self._flush()

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return the server's buffer: it is read before another connection gets it."""
        return self._owner.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Process received bytes."""
        if self._closed or self._ignores_input:
            return
        self._received_at = self._loop.time()
        try:
            self._handle(self.session.receive(bytes(self._owner.buffer[:nbytes])))
        except Http2Error as error:
            self._fail(str(error))
            return
        self._flush()
        if not self._closed and not self._draining and not self.session.wants_input():
            self._close_transport()

    def eof_received(self) -> None:
        """The peer has closed its side; gRPC has no use for half a connection."""

    def pause_writing(self) -> None:
        """Stop writing: the peer does not read."""
        self._paused = True

    def resume_writing(self) -> None:
        """Continue writing."""
        self._paused = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Cancel what is open."""
        if self._closed:
            return
        self._closed = True
        for timer in (*self._timers, self._keepalive):
            if timer is not None:
                timer.cancel()
        for call in list(self._calls.values()):
            call.close()
        self._owner.on_held(-self._held)
        self._held = 0
        self.session.close()
        self._owner.on_closed(self)

    # ------------------------------------------------------------ called by the server

    @property
    def held(self) -> int:
        """Bytes of requests and responses in memory."""
        return self._held

    def drain(self) -> None:
        """Accept no further calls, and close when those that are open have ended."""
        if self._draining or self._closed:
            return
        self._draining = True
        self.session.go_away()
        self._flush()
        self._close_if_drained()

    def end_calls(self, code: grpc.StatusCode, details: str) -> None:
        """End all calls with this status."""
        for call in list(self._calls.values()):
            call.end(code, details)
        if not self._closed:
            self._flush()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # ------------------------------------------------------------ called by calls

    def call_ended(self, call: Call) -> None:
        """Forget a call whose last bytes are in the session."""
        if self._calls.pop(call.stream_id, None) is None:
            return
        self._owner.end_call()
        if not self._calls:
            self._owner.on_idle(self)

    def add_held(self, change: int) -> None:
        """Count bytes of requests in memory."""
        self._request_bytes += change

    def wait_until_sent(self, call: Call) -> None:
        """Wake the call's handler when its response is sent."""
        self._writers.append(call)

    def flush_soon(self) -> None:
        """Send at the end of this turn of the event loop, what other calls add until then included."""
        self._sent_since_ping = True
        if not self._flushing and not self._closed:
            self._flushing = True
            self._loop.call_soon(self._flush)

    # ------------------------------------------------------------ events

    def _handle(self, events: Iterable[Event]) -> None:
        opened: list[Call] = []
        for event in events:
            if isinstance(event, RequestReceived):
                call = self._open(event.stream_id, event.headers)
                if call is not None:
                    opened.append(call)
            elif isinstance(event, PingReceived):
                if event.acknowledges:
                    self._on_pong()
                else:
                    self._on_ping()
            elif isinstance(event, RequestRejected):
                self._refuse(event.stream_id, grpc.StatusCode.RESOURCE_EXHAUSTED, "metadata is too large")
            else:
                self._handle_of_call(event)
        for call in opened:
            if not call.is_started:
                call.expect_request_within(_REQUEST_TIMEOUT_S)

    def _handle_of_call(self, event: DataReceived | StreamEnded | StreamClosed) -> None:
        call = self._calls.get(event.stream_id)
        if isinstance(event, DataReceived):
            if call is None:  # it has ended
                self.session.consume(event.stream_id, len(event.data))
            else:
                call.feed(event.data)
        elif call is not None:
            if isinstance(event, StreamEnded):
                call.end_request()
            else:
                call.close()

    def _open(self, stream_id: int, headers: Headers) -> Call | None:
        try:
            head = read_head(headers)
        except HttpError as error:
            fields = [(b":status", str(error.status).encode()), (b"content-type", b"text/plain")]
            self.session.send_headers(stream_id, HeaderBlock(fields), end=True)
            return None
        except BadRequestHead as error:
            self._refuse(stream_id, error.code, str(error))
            return None
        handler = self._owner.find_handler(head)
        if handler is None:
            self._refuse(stream_id, grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
            return None
        if not self._owner.take_call():
            self._refuse(stream_id, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many calls in progress; try again later")
            return None
        if not self._calls:
            self._owner.on_busy(self)
        call = self._calls[stream_id] = Call(self, stream_id, head, handler)
        return call

    def _refuse(self, stream_id: int, code: grpc.StatusCode, details: str) -> None:
        fields = [(b":status", b"200"), (b"content-type", b"application/grpc"), *encode_status(code, details)]
        if code is grpc.StatusCode.UNIMPLEMENTED:
            fields.append((b"grpc-accept-encoding", b"identity"))
        self.session.send_headers(stream_id, HeaderBlock(fields), end=True)

    def _on_ping(self) -> None:
        """Count PINGs that come too often, as gRPC does (A8: client-side keepalive)."""
        now = self._loop.time()
        too_soon = not self._sent_since_ping and now - self._pinged_at < _MIN_PING_INTERVAL_S
        self._ping_strikes = self._ping_strikes + 1 if too_soon else 0
        self._pinged_at, self._sent_since_ping = now, False
        if self._ping_strikes > _MAX_PING_STRIKES:
            self.session.go_away(ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings")
            raise Http2Error("too many pings")

    # ------------------------------------------------------------ sending

    def _flush(self) -> None:
        self._flushing = False
        transport, session = self._transport, self.session
        if self._closed or transport is None:
            return
        try:
            while not self._paused and (data := session.data_to_send(_FLUSH_BYTES)):
                transport.write(data)
            self._handle(session.take_events())
        except Http2Error as error:
            self._owner.warn(f"closed the gRPC connection of {self.peer}: {error}", self.peer)
            transport.abort()
            return
        if self._writers:
            self._writers = [call for call in self._writers if not call.on_sent()]
        self._account()
        self._close_if_drained()

    def _account(self) -> None:
        held = self.session.held + self._request_bytes
        if held == self._held:
            return
        self._owner.on_held(held - self._held)
        self._held = held
        if held > _MAX_CONNECTION_BYTES:
            self._owner.warn(
                f"closed the gRPC connection of {self.peer}: its requests and unread answers take {held >> 20} MiB, "
                f"of at most {_MAX_CONNECTION_BYTES >> 20}",
                self.peer,
            )
            self.abort()

    def _close_if_drained(self) -> None:
        """Close once every answer has left and has arrived.

        gRPC's client does not close on a GOAWAY or TLS close_notify, and closing first could reset the connection
        before it has read the last answer. So a PING goes last: its acknowledgement says that all was received.
        """
        if self._draining and not self._closing and not self._calls and not self.session.held:
            self._closing = True
            self._ping()
            self._timers.append(self._loop.call_later(_LAST_PING_TIMEOUT_S, self.abort))
            self._flush()

    def _ping(self) -> None:
        self._unanswered_pings += 1
        self.session.ping()

    def _on_pong(self) -> None:
        self._unanswered_pings -= 1
        if self._closing and self._unanswered_pings <= 0:
            self.abort()

    def _close_transport(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _fail(self, reason: str) -> None:
        """Send a GOAWAY, if there is one, and close."""
        self._ignores_input = True
        self._owner.warn(f"closed the gRPC connection of {self.peer}: {reason}", self.peer)
        self._flush()
        self._close_transport()

    # ------------------------------------------------------------ timers

    def _on_preface_timeout(self) -> None:
        if not self.session.has_settings:
            self._owner.warn(
                f"closed the gRPC connection of {self.peer}: no HTTP/2 within {_PREFACE_TIMEOUT_S:g} s", self.peer
            )
            self.abort()

    def _on_max_age(self) -> None:
        self._timers.append(self._loop.call_later(self._owner.timing.age_grace_s, self.abort))
        self.drain()

    def _check_alive(self) -> None:
        timing = self._owner.timing
        silent_s = self._loop.time() - self._received_at
        if silent_s < timing.keepalive_s:
            self._keepalive = self._loop.call_later(timing.keepalive_s - silent_s, self._check_alive)
            return
        self._keepalive = self._loop.call_later(timing.keepalive_timeout_s, self._on_no_answer, self._received_at)
        self._ping()
        self._flush()

    def _on_no_answer(self, received_at: float) -> None:
        if self._received_at != received_at:
            self._check_alive()
            return
        log.info("closed a gRPC connection whose peer no longer answers", extra={"peer": self.peer})
        self.abort()


def _identity_behind(tls: ssl.SSLObject) -> Identity | None:
    try:
        return peer_certificate(tls).identity
    except IdentityError:
        return None
