"""Callbacks of libnghttp2: static functions that find their session by its number.

An exception must not leave a callback; the library would continue as if nothing had happened.
"""

import ctypes
import itertools
import logging
from functools import cache
from typing import Any, Protocol

from coordinator.rpc.http2 import library as c

log = logging.getLogger("zkp.coordinator")

Frame = Any  # a pointer to `library.FrameHeader`


class Receiver(Protocol):
    """A session's side of the callbacks. Stream ids are those of the frames."""

    def on_begin_headers(self, stream_id: int) -> None:
        """A header block begins."""
        ...

    def on_header(self, stream_id: int, name: bytes, value: bytes) -> None:
        """A header field; all are valid."""
        ...

    def on_frame(self, stream_id: int, kind: int, flags: int) -> None:
        """A whole frame was received, a header block with its continuations."""
        ...

    def on_data(self, stream_id: int, data: bytes) -> None:
        """A part of a DATA frame."""
        ...

    def on_stream_close(self, stream_id: int, code: int) -> None:
        """A stream is closed."""
        ...

    def read_data(self, stream_id: int, buffer: int, length: int) -> tuple[int, int]:
        """Write at most `length` bytes of a response to the address `buffer`; return their number and DATA_FLAGs."""
        ...


_numbers = itertools.count(1)
_receivers: dict[int, Receiver] = {}


def register(receiver: Receiver) -> int:
    """Return the number under which callbacks reach `receiver` from now on."""
    number = next(_numbers)
    _receivers[number] = receiver
    return number


def unregister(number: int) -> None:
    """Forget a receiver. No callback may come for it any more."""
    del _receivers[number]


def _failed(error: BaseException) -> int:
    log.error("an HTTP/2 callback failed", exc_info=error)
    return c.ERR_CALLBACK_FAILURE


def _on_begin_headers(_: int, frame: Frame, number: int) -> int:
    try:
        _receivers[number].on_begin_headers(frame[0].stream_id)
    except BaseException as error:  # noqa: BLE001
        return _failed(error)
    return 0


def _on_header(  # noqa: PLR0917 - the library's signature
    _: int, frame: Frame, name: int, name_size: int, value: int, value_size: int, _flags: int, number: int
) -> int:
    try:
        text = ctypes.string_at(value, value_size) if value_size else b""
        _receivers[number].on_header(frame[0].stream_id, ctypes.string_at(name, name_size), text)
    except BaseException as error:  # noqa: BLE001
        return _failed(error)
    return 0


def _on_invalid_header(*_: object) -> int:
    """Reset a stream with a malformed field (RFC 9113, section 8.1.1); the library would only leave it out."""
    return c.ERR_TEMPORAL_CALLBACK_FAILURE


def _on_frame(_: int, frame: Frame, number: int) -> int:
    try:
        header = frame[0]
        _receivers[number].on_frame(header.stream_id, header.type, header.flags)
    except BaseException as error:  # noqa: BLE001
        return _failed(error)
    return 0


def _on_data_chunk(_: int, _flags: int, stream_id: int, data: int, size: int, number: int) -> int:
    try:
        _receivers[number].on_data(stream_id, ctypes.string_at(data, size))
    except BaseException as error:  # noqa: BLE001
        return _failed(error)
    return 0


def _on_stream_close(_: int, stream_id: int, code: int, number: int) -> int:
    try:
        _receivers[number].on_stream_close(stream_id, code)
    except BaseException as error:  # noqa: BLE001
        return _failed(error)
    return 0


def _read_data(
    _: int,
    stream_id: int,
    buffer: int,
    length: int,
    flags: Any,  # noqa: ANN401 - a pointer
    _source: int,
    number: int,
) -> int:
    try:
        result, data_flags = _receivers[number].read_data(stream_id, buffer, length)
        if data_flags:
            flags[0] |= data_flags
    except BaseException as error:  # noqa: BLE001
        return _failed(error)
    return result


# Kept for the life of the process: the library calls them from every session.
_PROVIDER = c.DataProvider(None, c.ReadData(_read_data))
PROVIDER = ctypes.addressof(_PROVIDER)
"""Address of the data provider of every response."""
_CALLBACKS = {
    "on_begin_headers": c.OnBeginHeaders(_on_begin_headers),
    "on_header": c.OnHeader(_on_header),
    "on_invalid_header": c.OnHeader(_on_invalid_header),
    "on_frame_recv": c.OnFrame(_on_frame),
    "on_data_chunk_recv": c.OnDataChunk(_on_data_chunk),
    "on_stream_close": c.OnStreamClose(_on_stream_close),
}


@cache
def callbacks() -> ctypes.c_void_p:
    """Return the library's set of these callbacks. Raises `LibraryError`."""
    library, made = c.load(), ctypes.c_void_p()
    library.nghttp2_session_callbacks_new(ctypes.byref(made))
    for name, function in _CALLBACKS.items():
        getattr(library, f"nghttp2_session_callbacks_set_{name}_callback")(made, function)
    return made
