"""The server's side of an HTTP/2 connection, without I/O: `receive` returns events, `data_to_send` returns bytes.

libnghttp2 does framing, HPACK, validation of headers (RFC 9113, section 8), flow control, and its limits against
floods of SETTINGS, PING, RST_STREAM and CONTINUATION. This class owns the bodies of responses until they are sent.
"""

import ctypes
from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import cache

from coordinator.rpc.http2 import library as c
from coordinator.rpc.http2.callbacks import PROVIDER, callbacks, register, unregister
from coordinator.rpc.http2.events import (
    DataReceived,
    Event,
    Headers,
    PingReceived,
    RequestReceived,
    RequestRejected,
    StreamClosed,
    StreamEnded,
)

MAX_STREAMS = 1024
MAX_HEADER_LIST_BYTES = 16 * 1024
STREAM_WINDOW_BYTES = 256 * 1024
CONNECTION_WINDOW_BYTES = 4 << 20
_MAX_FRAME_BYTES = 64 * 1024
_FIELD_OVERHEAD_BYTES = 32  # RFC 9113, section 6.5.2
_MAX_UNSENT_ACKS = 1000
_RESET_BURST, _RESETS_PER_S = 2000, 200  # a client that cancels its calls is no attacker
_MAX_IDLE_FRAMES = 1000
"""Empty DATA, PRIORITY and SETTINGS frames without a request or data between them; more are a flood."""

_PING_DATA = b"zkp-ping"
_PING = ctypes.create_string_buffer(_PING_DATA)
_PONG = b"\0\0\x08\x06\x01\0\0\0\0" + _PING_DATA
"""The acknowledgement, as a frame."""


class ErrorCode(IntEnum):
    """Error codes of RFC 9113, section 7, that this side sends."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    REFUSED_STREAM = 7
    CANCEL = 8
    ENHANCE_YOUR_CALM = 11


class Http2Error(Exception):
    """The peer broke the protocol. Send what `data_to_send` returns, then close the connection."""


class HeaderBlock:
    """Header fields in the form of the library; a block that is sent often is made once."""

    def __init__(self, fields: Sequence[tuple[bytes, bytes]]) -> None:
        self.count = len(fields)
        self._kept = fields  # the library reads them in place
        flags = c.NV_FLAG_NO_COPY_NAME | c.NV_FLAG_NO_COPY_VALUE
        self.fields = (c.HeaderField * self.count)(
            *(c.HeaderField(name, value, len(name), len(value), flags) for name, value in fields)
        )


class _Stream:
    """State of one open stream: the request's headers until they are complete, and the response's unsent parts."""

    __slots__ = (
        "blocks",
        "deferred",
        "ended_by_peer",
        "header_bytes",
        "headers",
        "trailers",
        "unsent",
        "unsent_bytes",
    )

    def __init__(self) -> None:
        self.headers: Headers | None = []
        self.header_bytes = 0
        self.ended_by_peer = False
        self.unsent: deque[bytes | memoryview] = deque()
        self.unsent_bytes = 0
        self.trailers: HeaderBlock | None = None
        self.deferred = False
        self.blocks: list[HeaderBlock] = []
        """Kept until the stream is closed: the library does not copy them."""


class Http2Session:
    """HTTP/2 connection of a server. Not thread-safe. `close` must be called."""

    def __init__(self) -> None:
        self._library = c.load()
        self._number = register(self)
        self._streams: dict[int, _Stream] = {}
        self.held = 0
        """Bytes of responses that are not sent."""
        self.has_settings = False
        """Whether the peer's SETTINGS have arrived, with which every connection begins."""
        self._events: list[Event] = []
        self._unfinished: list[int] = []
        """Streams whose response ended before the request; they are reset once the response is sent."""
        self._leaving = False
        self._ignored = b""
        self._idle_frames = 0
        self._frame_had_data = False
        self._flooded = False
        self._handle: int | None = _new_session(self._library, self._number)
        settings = (c.Setting * 4)(
            c.Setting(c.SETTINGS_MAX_CONCURRENT_STREAMS, MAX_STREAMS),
            c.Setting(c.SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
            c.Setting(c.SETTINGS_MAX_FRAME_SIZE, _MAX_FRAME_BYTES),
            c.Setting(c.SETTINGS_MAX_HEADER_LIST_SIZE, MAX_HEADER_LIST_BYTES),
        )
        self._call(self._library.nghttp2_submit_settings, c.FLAG_NONE, settings, len(settings))
        self._call(self._library.nghttp2_session_set_local_window_size, c.FLAG_NONE, 0, CONNECTION_WINDOW_BYTES)

    def close(self) -> None:
        """Free the session. Idempotent; other methods must not be called afterwards."""
        if self._handle is not None:
            self._library.nghttp2_session_del(self._handle)
            self._handle = None
            unregister(self._number)
            self._streams.clear()

    # ------------------------------------------------------------ receiving

    def receive(self, data: bytes) -> list[Event]:
        """Return the events of the next bytes of the connection. Raises `Http2Error` if it cannot continue."""
        handle = self._open_handle()
        if self._leaving and not self.wants_input():
            return self._await_pong(data)
        consumed = self._library.nghttp2_session_mem_recv(handle, data, len(data))
        events = self.take_events()
        if consumed < 0:
            raise Http2Error(self._library.nghttp2_strerror(consumed).decode())
        if self._flooded:
            self.terminate(ErrorCode.ENHANCE_YOUR_CALM)
            raise Http2Error("flood of frames without content")
        return events

    def _await_pong(self, data: bytes) -> list[Event]:
        """Look for the last PING's acknowledgement: after a GOAWAY, without streams, the library stops reading."""
        received = self._ignored + data
        self._ignored = received[1 - len(_PONG) :]
        return [PingReceived(acknowledges=True)] if _PONG in received else []

    def take_events(self) -> list[Event]:
        """Return events that arose otherwise: streams that were closed when their last bytes were taken."""
        events, self._events = self._events, []
        return events

    def consume(self, stream_id: int, size: int) -> None:
        """Return the flow-control credit for `size` bytes of a request, also of a stream that is closed."""
        self._call(self._library.nghttp2_session_consume, stream_id, size)

    def wants_input(self) -> bool:
        """Return whether the session continues; otherwise the connection is closed once its last bytes are sent."""
        return bool(self._handle is not None and self._library.nghttp2_session_want_read(self._handle))

    # ------------------------------------------------------------ answering

    def send_headers(self, stream_id: int, block: HeaderBlock, *, end: bool = False) -> None:
        """Send the header block of a response; `end`: it is the whole response."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.blocks.append(block)
        provider = None if end else PROVIDER
        self._call(self._library.nghttp2_submit_response, stream_id, block.fields, block.count, provider)
        if end and not stream.ended_by_peer:
            self._unfinished.append(stream_id)

    def send_data(self, stream_id: int, data: bytes) -> None:
        """Add to the body of a response whose headers have been sent."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.unsent.append(data)
        stream.unsent_bytes += len(data)
        self.held += len(data)
        self._resume(stream_id, stream)

    def send_trailers(self, stream_id: int, block: HeaderBlock) -> None:
        """End a response whose headers have been sent, once its body is sent."""
        stream = self._streams.get(stream_id)
        if stream is None:
            return
        stream.trailers = block
        self._resume(stream_id, stream)

    def unsent_bytes(self, stream_id: int) -> int:
        """Return how much of a response's body is still here."""
        stream = self._streams.get(stream_id)
        return 0 if stream is None else stream.unsent_bytes

    def reset(self, stream_id: int, code: ErrorCode) -> None:
        """Abort a stream."""
        self._call(self._library.nghttp2_submit_rst_stream, c.FLAG_NONE, stream_id, code)

    def ping(self) -> None:
        """Send a PING; its acknowledgement is an event."""
        self._call(self._library.nghttp2_submit_ping, c.FLAG_NONE, _PING)

    def go_away(self, code: ErrorCode = ErrorCode.NO_ERROR, reason: bytes = b"") -> None:
        """Accept no new streams; those that are open continue. Streams that arrive later are ignored."""
        self._leaving = True
        last = self._library.nghttp2_session_get_last_proc_stream_id(self._open_handle())
        self._call(self._library.nghttp2_submit_goaway, c.FLAG_NONE, last, code, reason, len(reason))

    def terminate(self, code: ErrorCode) -> None:
        """End the connection with a GOAWAY; it is finished when that is sent."""
        self._call(self._library.nghttp2_session_terminate_session, code)

    def data_to_send(self, limit: int) -> bytes:
        """Return bytes to send: about `limit` of them, fewer only if that is all."""
        if self._handle is None:
            return b""
        send, handle, pointer = self._library.nghttp2_session_mem_send, self._handle, ctypes.c_void_p()
        reference = ctypes.byref(pointer)
        parts: list[bytes] = []
        size = 0
        while size < limit:
            length = send(handle, reference)
            if length > 0:
                parts.append(ctypes.string_at(pointer.value, length))  # type: ignore[arg-type]  # not NULL
                size += length
            elif length < 0:
                raise Http2Error(self._library.nghttp2_strerror(length).decode())
            elif self._unfinished:  # their responses are sent; a reset before that would have discarded them
                for stream_id in self._unfinished:
                    if stream_id in self._streams:
                        self.reset(stream_id, ErrorCode.NO_ERROR)
                self._unfinished.clear()
            else:
                break
        return b"".join(parts) if len(parts) != 1 else parts[0]

    def _resume(self, stream_id: int, stream: _Stream) -> None:
        if stream.deferred:
            stream.deferred = False
            self._call(self._library.nghttp2_session_resume_data, stream_id)

    def _open_handle(self) -> int:
        """Return the library's session: given a freed one, it would crash the process."""
        if self._handle is None:
            raise Http2Error("the session is closed")
        return self._handle

    def _call(self, function: Callable[..., int], *arguments: object) -> None:
        status = function(self._open_handle(), *arguments)
        if status < 0:
            raise Http2Error(self._library.nghttp2_strerror(status).decode())

    # ------------------------------------------------------------ called by the library

    def on_begin_headers(self, stream_id: int) -> None:
        """A header block begins: of a request, or trailers of one."""
        if stream_id not in self._streams:
            self._streams[stream_id] = _Stream()

    def on_header(self, stream_id: int, name: bytes, value: bytes) -> None:
        """Keep a header field of a request."""
        stream = self._streams.get(stream_id)
        if stream is None or stream.headers is None:
            return
        stream.header_bytes += len(name) + len(value) + _FIELD_OVERHEAD_BYTES
        if stream.header_bytes <= MAX_HEADER_LIST_BYTES:
            stream.headers.append((name, value))

    def on_frame(self, stream_id: int, kind: int, flags: int) -> None:
        """Turn a frame into events."""
        if kind == c.FRAME_HEADERS:
            self._idle_frames = 0
            self._on_header_block(stream_id)
        elif kind == c.FRAME_PING:
            self._events.append(PingReceived(bool(flags & c.FLAG_ACK)))
            return
        elif kind == c.FRAME_DATA:
            if not self._frame_had_data and not flags & c.FLAG_END_STREAM:
                self._count_idle_frame()
            self._frame_had_data = False
        else:
            if kind == c.FRAME_SETTINGS:
                self.has_settings = True
                self._count_idle_frame()
            elif kind == c.FRAME_PRIORITY:
                self._count_idle_frame()
            return
        if flags & c.FLAG_END_STREAM:
            stream = self._streams.get(stream_id)
            if stream is not None and not stream.ended_by_peer:
                stream.ended_by_peer = True
                self._events.append(StreamEnded(stream_id))

    def _on_header_block(self, stream_id: int) -> None:
        stream = self._streams.get(stream_id)
        if stream is None or stream.headers is None:
            return
        headers, stream.headers = stream.headers, None
        if stream.header_bytes > MAX_HEADER_LIST_BYTES:
            self._events.append(RequestRejected(stream_id))
        else:
            self._events.append(RequestReceived(stream_id, headers))

    def _count_idle_frame(self) -> None:
        self._idle_frames += 1
        if self._idle_frames > _MAX_IDLE_FRAMES:
            self._flooded = True

    def on_data(self, stream_id: int, data: bytes) -> None:
        """Turn data into an event."""
        self._idle_frames = 0
        self._frame_had_data = True
        self._events.append(DataReceived(stream_id, data))

    def on_stream_close(self, stream_id: int, code: int) -> None:
        """Forget a stream."""
        stream = self._streams.pop(stream_id, None)
        if stream is not None:
            self.held -= stream.unsent_bytes
            self._events.append(StreamClosed(stream_id, code))

    def read_data(self, stream_id: int, buffer: int, length: int) -> tuple[int, int]:
        """Move the next part of a response to the library's buffer. See `callbacks.Receiver`."""
        stream = self._streams[stream_id]
        unsent = stream.unsent
        filled = 0
        while unsent and filled < length:
            part = unsent[0]
            size = min(len(part), length - filled)
            if size == len(part):
                unsent.popleft()
            else:
                unsent[0] = memoryview(part)[size:]
            ctypes.memmove(buffer + filled, bytes(part[:size]), size)
            filled += size
        stream.unsent_bytes -= filled
        self.held -= filled
        if not unsent and stream.trailers is not None:
            block, stream.trailers = stream.trailers, None
            stream.blocks.append(block)
            self._call(self._library.nghttp2_submit_trailer, stream_id, block.fields, block.count)
            if not stream.ended_by_peer:
                self._unfinished.append(stream_id)
            return filled, c.DATA_FLAG_EOF | c.DATA_FLAG_NO_END_STREAM
        if not filled:
            stream.deferred = True
            return c.ERR_DEFERRED, 0
        return filled, 0


@cache
def _options() -> ctypes.c_void_p:
    library, options = c.load(), ctypes.c_void_p()
    library.nghttp2_option_new(ctypes.byref(options))
    library.nghttp2_option_set_no_auto_window_update(options, 1)
    library.nghttp2_option_set_no_closed_streams(options, 1)
    library.nghttp2_option_set_max_outbound_ack(options, _MAX_UNSENT_ACKS)
    library.nghttp2_option_set_stream_reset_rate_limit(options, _RESET_BURST, _RESETS_PER_S)
    return options


def _new_session(library: ctypes.PyDLL, number: int) -> int:
    handle = ctypes.c_void_p()
    status = library.nghttp2_session_server_new2(ctypes.byref(handle), callbacks(), number, _options())
    if status or not handle.value:
        unregister(number)
        raise MemoryError("no memory for an HTTP/2 session")
    return handle.value
