"""A client that sends whatever frames a test wants, and reads the answers of an `Http2Session`."""

from collections.abc import Iterator, Sequence
from typing import Any

import hpack
from hyperframe.frame import Frame, GoAwayFrame, HeadersFrame, RstStreamFrame

from coordinator.rpc.http2 import Event, Http2Error, Http2Session

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM = ACK = 0x1
END_HEADERS, PADDED = 0x4, 0x8

Fields = Sequence[tuple[str, str]]
REQUEST: Fields = (
    (":method", "POST"),
    (":scheme", "https"),
    (":path", "/a.B/C"),
    (":authority", "localhost"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
)


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    """Return a frame of RFC 9113, section 4.1, without any check."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def block(fields: Fields = REQUEST) -> bytes:
    """Return a header block that does not use the dynamic table."""
    encoder = hpack.Encoder()
    return encoder.encode([hpack.NeverIndexedHeaderTuple(name, value) for name, value in fields], huffman=False)


def request(stream: int = 1, fields: Fields = REQUEST, *, end: bool = True) -> bytes:
    """Return the HEADERS frame of a request."""
    return frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, block(fields))


def parsed(data: bytes) -> Iterator[Frame]:
    """Yield the frames of a byte stream."""
    view = memoryview(data)
    while view:
        one, length = Frame.parse_frame_header(view[:9])
        one.parse_body(view[9 : 9 + length])
        yield one
        view = view[9 + length :]


class Peer:
    """A connection between the test and a session."""

    def __init__(self) -> None:
        self.session = Http2Session()
        self.error: Http2Error | None = None
        self.frames: list[Any] = []
        self.decoder = hpack.Decoder()

    def open(self, settings: bytes = b"") -> "Peer":
        """Exchange prefaces and settings."""
        self.send(PREFACE + frame(SETTINGS, payload=settings) + frame(SETTINGS, ACK))
        self.frames.clear()
        return self

    def send(self, data: bytes) -> list[Event]:
        """Give the session bytes; returns its events and keeps its answers."""
        try:
            events = self.session.receive(data)
        except Http2Error as error:
            self.error, events = error, []
        self.read()
        return events

    def read(self) -> bytes:
        """Take what the session wants to send."""
        data = b""
        while part := self.session.data_to_send(65536):
            data += part
        self.frames += parsed(data)
        return data

    def of(self, kind: type[Frame], stream: int | None = None) -> list[Any]:
        """Return the received frames of a kind."""
        return [one for one in self.frames if isinstance(one, kind) and stream in (None, one.stream_id)]

    def verdict(self) -> str:
        """Say how the session took what was sent: "goaway CODE", "reset CODE", "closed" or "fine"."""
        for one in self.of(GoAwayFrame):
            return f"goaway {one.error_code}"
        if self.error is not None:
            return "closed"
        for one in self.of(RstStreamFrame):
            return f"reset {one.error_code}"
        return "fine"

    def headers(self, stream: int = 1) -> list[tuple[str, str]]:
        """Return the fields of all header blocks of a stream's answer, in order."""
        found: list[tuple[str, str]] = []
        for one in self.of(HeadersFrame, stream):
            found += [(str(name), str(value)) for name, value in self.decoder.decode(one.data)]
        return found
