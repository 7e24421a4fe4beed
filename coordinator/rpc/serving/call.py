"""One call: its request messages, its answer, its deadline, and the context that handlers get.

A handler is what gRPC's generated code registers: a coroutine function that takes a message (or an iterator of them)
and a context. The context offers what `grpc.aio.ServicerContext` does, as far as handlers use it.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import grpc

from coordinator.errors import TooLarge
from coordinator.rpc.http2.session import HeaderBlock, Http2Session
from coordinator.rpc.serving.messages import MessageError, MessageReader, Oversized, frame
from coordinator.rpc.serving.metadata import Metadata, RequestHead, encode_metadata, encode_status
from zkp.protocol.limits import MAX_MESSAGE_BYTES

log = logging.getLogger("zkp.coordinator")

Handler = Any  # an RpcMethodHandler, which gRPC does not type

_MAX_UNREAD_BYTES = 64 * 1024
"""Complete request messages that a handler has not read; beyond, the peer gets no flow-control credit."""
_MESSAGE_OVERHEAD_BYTES = 64
"""Added to the size of each unread message: empty ones take memory, too."""
_MAX_UNSENT_BYTES = 64 * 1024
"""Unsent parts of the response; beyond, `write` waits."""
_RESPONSE_FIELDS = ((b":status", b"200"), (b"content-type", b"application/grpc"))
_HEADERS = HeaderBlock(_RESPONSE_FIELDS)
_OK = HeaderBlock(encode_status(grpc.StatusCode.OK, ""))
_INTERNAL_TEXT = "internal error; see the coordinator's log"


class CallOwner(Protocol):
    """The connection of a call."""

    session: Http2Session
    peer: str
    auth_context: Mapping[str, Sequence[bytes]]

    def call_ended(self, call: "Call") -> None:
        """The call's last bytes are in the session."""
        ...

    def add_held(self, change: int) -> None:
        """Change the number of request bytes that calls hold."""
        ...

    def wait_until_sent(self, call: "Call") -> None:
        """Call `on_sent` whenever something was sent, until it returns True."""
        ...

    def flush_soon(self) -> None:
        """Send what is in the session, at the end of this turn of the event loop."""
        ...


class Call:
    """A call from its first header to its last byte, and the context of its handler."""

    __slots__ = (
        "_code", "_credit", "_deadline", "_details", "_finished", "_handler", "_handler_done", "_head",
        "_headers_sent", "_held", "_inbox", "_initial", "_owner", "_reader", "_request_ended", "_stream_id", "_task",
        "_trailing", "_unread", "_wakes_reader", "_wakes_writer",
    )  # fmt: skip

    def __init__(self, owner: CallOwner, stream_id: int, head: RequestHead, handler: Handler) -> None:
        self._owner = owner
        self._stream_id = stream_id
        self._head = head
        self._handler = handler
        self._reader = MessageReader(MAX_MESSAGE_BYTES)
        self._inbox: deque[bytes | Exception] = deque()
        self._unread = 0
        self._credit = 0
        self._held = 0
        self._request_ended = False
        self._task: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._wakes_reader: asyncio.Future[None] | None = None
        self._wakes_writer: asyncio.Future[None] | None = None
        self._headers_sent = False
        self._finished = self._handler_done = False
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._initial: Metadata = ()
        self._trailing: Metadata = ()
        if head.timeout_s is not None:
            self._deadline = asyncio.get_running_loop().call_later(head.timeout_s, self._on_deadline)
        if handler.request_streaming:
            self._start()

    # ------------------------------------------------------------ called by the connection

    @property
    def is_started(self) -> bool:
        """Whether its handler runs or has run."""
        return self._task is not None

    @property
    def stream_id(self) -> int:
        """Id of its HTTP/2 stream."""
        return self._stream_id

    def expect_request_within(self, seconds: float) -> None:
        """End the call if its request is not complete by then; for requests of one message."""
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().call_later(seconds, self._on_deadline)

    def feed(self, data: bytes) -> None:
        """Take the next part of the request's body."""
        if self._finished:
            self._owner.session.consume(self._stream_id, len(data))
            return
        try:
            messages = self._reader.feed(data)
        except MessageError as error:
            self._owner.session.consume(self._stream_id, len(data))
            code = grpc.StatusCode.UNIMPLEMENTED if error.compressed else grpc.StatusCode.INTERNAL
            self.end(code, str(error))
            return
        for message in messages:
            if isinstance(message, Oversized):
                self._inbox.append(
                    TooLarge(f"message of {message.size} bytes: send at most {MAX_MESSAGE_BYTES} in one")
                )
                self._request_ended = True
                self._on_request_ended()
            else:
                self._inbox.append(message)
                self._unread += len(message) + _MESSAGE_OVERHEAD_BYTES
        if self._unread > _MAX_UNREAD_BYTES and self._handler.request_streaming:
            self._credit += len(data)
        else:
            self._owner.session.consume(self._stream_id, len(data))
        self._hold(self._reader.buffered + self._unread)
        if messages:
            self._wake_reader()

    def end_request(self) -> None:
        """The peer has sent its whole request."""
        if self._request_ended or self._finished:
            return
        self._request_ended = True
        self._on_request_ended()

    def close(self) -> None:
        """The stream is closed: stop the handler if it still runs."""
        self._finish()

    def end(self, code: grpc.StatusCode, details: str) -> None:
        """End the call from outside its handler, which is cancelled."""
        if not self._finished:
            self._send_status(code, details, ())
            self._finish()

    def on_sent(self) -> bool:
        """Let the handler continue if little of its response is unsent. Returns whether it does."""
        waiter = self._wakes_writer
        if waiter is not None and self._owner.session.unsent_bytes(self._stream_id) > _MAX_UNSENT_BYTES:
            return False
        self._wakes_writer = None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        return True

    # ------------------------------------------------------------ the handler's context

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return the client's metadata."""
        return self._head.metadata()

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """Return the client's certificate in the form of gRPC."""
        return self._owner.auth_context

    def peer(self) -> str:
        """Return HOST:PORT of the client."""
        return self._owner.peer

    def code(self) -> grpc.StatusCode | None:
        """Return the status that the handler has set."""
        return self._code

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status with which the call ends when the handler returns."""
        self._code = code

    def details(self) -> str:
        """Return the details that the handler has set."""
        return self._details

    def set_details(self, details: str) -> None:
        """Set the details of the status."""
        self._details = details

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Set the metadata that is sent with the status."""
        self._trailing = metadata

    def time_remaining(self) -> float | None:
        """Return the seconds until the client's deadline; None without one."""
        if self._head.timeout_s is None or self._deadline is None:
            return None
        return max(0.0, self._deadline.when() - asyncio.get_running_loop().time())

    def cancelled(self) -> bool:
        """Return whether the client has cancelled the call, or it has ended otherwise."""
        return self._finished

    async def send_initial_metadata(self, metadata: Metadata) -> None:
        """Send the response's headers now, and not with its first message."""
        if self._finished:
            return
        self._initial = metadata
        self._send_headers()
        self._owner.flush_soon()

    async def write(self, message: Any) -> None:  # noqa: ANN401 - any message
        """Send a message; waits while too much of the response is unsent. Does nothing once the call has ended."""
        if self._finished:
            return
        self._send_message(message)
        self._owner.flush_soon()
        if self._owner.session.unsent_bytes(self._stream_id) > _MAX_UNSENT_BYTES:
            self._wakes_writer = asyncio.get_running_loop().create_future()
            self._owner.wait_until_sent(self)
            await self._wakes_writer

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> None:
        """End the call with this status, by an exception."""
        self._code, self._details = code, details
        if trailing_metadata:
            self._trailing = trailing_metadata
        raise grpc.aio.AbortError

    # ------------------------------------------------------------ running the handler

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    def _on_request_ended(self) -> None:
        if self._handler.request_streaming:
            self._wake_reader()
        elif len(self._inbox) != 1 or self._reader.buffered:
            self.end(grpc.StatusCode.INTERNAL, "the request must be exactly one message")
        elif self._task is None:
            self._start()

    async def _run(self) -> None:
        handler = self._handler
        try:
            request = _Messages(self.read) if handler.request_streaming else self._take()
            answer = await _behaviour(handler)(request, self)
            if self._finished:
                return
            if not handler.response_streaming:
                self._send_message(answer)
            self._send_status(self._code or grpc.StatusCode.OK, self._details, self._trailing)
        except grpc.aio.AbortError:
            if not self._finished:
                self._send_status(self._code or grpc.StatusCode.UNKNOWN, self._details, self._trailing)
        except asyncio.CancelledError:
            if self._finished:
                return  # cancelled by `_finish`
            self._send_status(grpc.StatusCode.CANCELLED, "the call was cancelled", ())
            raise
        except Exception:
            log.exception("call of %s failed", self._head.method, extra={"peer": self._owner.peer})
            if not self._finished:
                self._send_status(grpc.StatusCode.INTERNAL, _INTERNAL_TEXT, ())
        finally:
            self._handler_done = True
            self._finish()

    def _take(self) -> object:
        """Return the only message of the request, or the error in its place, which the guard reports."""
        message = self._inbox.popleft()
        self._unread = 0
        self._hold(0)
        return message if isinstance(message, Exception) else self._deserialize(message)

    async def read(self) -> Any:  # noqa: ANN401
        """Return the next message of the request, or `grpc.aio.EOF`. Raises the error in its place."""
        while not self._inbox:
            if self._request_ended:
                return grpc.aio.EOF
            self._wakes_reader = asyncio.get_running_loop().create_future()
            await self._wakes_reader
        message = self._inbox.popleft()
        if isinstance(message, Exception):
            raise message
        self._unread -= len(message) + _MESSAGE_OVERHEAD_BYTES
        self._hold(self._reader.buffered + self._unread)
        if self._credit and not self._finished and self._unread <= _MAX_UNREAD_BYTES:
            self._owner.session.consume(self._stream_id, self._credit)
            self._credit = 0
            self._owner.flush_soon()
        return self._deserialize(message)

    def _deserialize(self, message: bytes) -> object:
        """Decode a message. One that is malformed is the client's fault, and is answered without a traceback here."""
        deserialize = self._handler.request_deserializer
        try:
            return message if deserialize is None else deserialize(message)
        except Exception:  # noqa: BLE001 - what a deserializer raises is its own
            self._code, self._details = grpc.StatusCode.INTERNAL, "the request message cannot be decoded"
            raise grpc.aio.AbortError from None

    def _hold(self, size: int) -> None:
        """Set how many bytes of the request are in memory."""
        if size != self._held:
            self._owner.add_held(size - self._held)
            self._held = size

    def _wake_reader(self) -> None:
        waiter, self._wakes_reader = self._wakes_reader, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # ------------------------------------------------------------ the answer

    def _send_headers(self) -> None:
        if not self._headers_sent:
            self._headers_sent = True
            block = _HEADERS
            if self._initial:
                block = HeaderBlock([*_RESPONSE_FIELDS, *encode_metadata(self._initial)])
            self._owner.session.send_headers(self._stream_id, block)

    def _send_message(self, message: Any) -> None:  # noqa: ANN401
        serialize = self._handler.response_serializer
        data = message if serialize is None else serialize(message)
        if len(data) > MAX_MESSAGE_BYTES:
            raise ValueError(f"answer of {len(data)} bytes: the maximum is {MAX_MESSAGE_BYTES}")
        self._send_headers()
        self._owner.session.send_data(self._stream_id, frame(data))

    def _send_status(self, code: grpc.StatusCode, details: str, metadata: Metadata) -> None:
        if code is grpc.StatusCode.OK and not details and not metadata:
            block = _OK
            fields = []
        else:
            fields = [*encode_status(code, details), *_trailing_fields(self._head.method, metadata)]
            block = HeaderBlock(fields)
        if self._headers_sent:
            self._owner.session.send_trailers(self._stream_id, block)
        else:
            fields = fields or encode_status(code, details)
            self._owner.session.send_headers(self._stream_id, HeaderBlock([*_RESPONSE_FIELDS, *fields]), end=True)
        self._owner.flush_soon()

    def _on_deadline(self) -> None:
        self.end(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _finish(self) -> None:
        if self._finished:
            return
        self._finished = True
        if self._deadline is not None:
            self._deadline.cancel()
        if self._task is not None and not self._handler_done:
            self._task.cancel()
        if self._credit:
            self._owner.session.consume(self._stream_id, self._credit)
            self._credit = 0
        self._inbox.clear()
        self._unread = 0
        self._hold(0)
        self._owner.call_ended(self)


class _Messages:
    """The messages of a request, as handlers of streams iterate over them."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[], Awaitable[Any]]) -> None:
        self._read = read

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401
        message = await self._read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message


def _behaviour(handler: Handler) -> Callable[..., Any]:
    """Return the handler's function; of the four attributes, one is set."""
    behaviour: Callable[..., Any] = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    return behaviour


def _trailing_fields(method: str, metadata: Metadata) -> list[tuple[bytes, bytes]]:
    try:
        return encode_metadata(metadata)
    except ValueError:
        log.exception("trailing metadata of %s cannot be sent", method)
        return []
