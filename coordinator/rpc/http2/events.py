"""What a peer did on an HTTP/2 connection. Stream ids are those of RFC 9113, section 5.1.1."""

from typing import NamedTuple

Headers = list[tuple[bytes, bytes]]


class RequestReceived(NamedTuple):
    """A complete header block that opens a stream. Names are lower case; pseudo-header fields come first."""

    stream_id: int
    headers: Headers


class RequestRejected(NamedTuple):
    """A request whose header list is larger than advertised; the stream is open, and waits for its answer."""

    stream_id: int


class DataReceived(NamedTuple):
    """A part of a request body. Its length must be given back to `Http2Session.consume` some time."""

    stream_id: int
    data: bytes


class StreamEnded(NamedTuple):
    """The peer has sent its whole request; trailers of requests are ignored."""

    stream_id: int


class StreamClosed(NamedTuple):
    """Both sides have ended the stream, or one has reset it (`error_code` is then often not 0)."""

    stream_id: int
    error_code: int


class PingReceived(NamedTuple):
    """A PING frame. `acknowledges`: it answers a PING of this side."""

    acknowledges: bool


Event = RequestReceived | RequestRejected | DataReceived | StreamEnded | StreamClosed | PingReceived
