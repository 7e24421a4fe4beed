"""What RFC 9113 requires of a server when a client breaks its rules: one row per rule."""

from collections.abc import Iterator

import hpack
import pytest

from coordinator.rpc.http2.session import CONNECTION_WINDOW_BYTES, MAX_STREAMS, STREAM_WINDOW_BYTES
from tests.unit.rpc.http2.peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    REQUEST,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    Fields,
    Peer,
    block,
    frame,
    request,
)

PROTOCOL, FLOW_CONTROL, STREAM_CLOSED, FRAME_SIZE, COMPRESSION = 1, 3, 5, 6, 9
OPEN = request(end=False)
CLOSED = OPEN + frame(RST_STREAM, 0, 1, b"\0\0\0\x08")
HALF = request(end=True)
U32 = (2**31 - 1).to_bytes(4, "big")


def without(name: str) -> Fields:
    return [field for field in REQUEST if field[0] != name]


def setting(number: int, value: int) -> bytes:
    return frame(SETTINGS, payload=number.to_bytes(2, "big") + value.to_bytes(4, "big"))


CONNECTION = {
    "4.2 frame above the maximum size": (frame(DATA, 0, 1, bytes(65537)), FRAME_SIZE),
    "4.3 header block that cannot be decoded": (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff"), COMPRESSION),
    "5.1 DATA on an idle stream": (frame(DATA, 0, 1, b"x"), PROTOCOL),
    "5.1 RST_STREAM on an idle stream": (frame(RST_STREAM, 0, 1, bytes(4)), PROTOCOL),
    "5.1 WINDOW_UPDATE on an idle stream": (frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"), PROTOCOL),
    "5.1.1 even stream id": (request(2), PROTOCOL),
    "6.1 DATA on stream 0": (frame(DATA, 0, 0, b"x"), PROTOCOL),
    "6.1 DATA with too much padding": (OPEN + frame(DATA, PADDED, 1, b"\x05abc"), PROTOCOL),
    "6.2 HEADERS on stream 0": (frame(HEADERS, END_HEADERS, 0, block()), PROTOCOL),
    "6.2 HEADERS with too much padding": (frame(HEADERS, END_HEADERS | PADDED, 1, b"\xff" + block()), PROTOCOL),
    "6.2 DATA inside a header block": (frame(HEADERS, 0, 1, block()) + frame(DATA, 0, 1, b"x"), PROTOCOL),
    "6.2 PING inside a header block": (frame(HEADERS, 0, 1, block()) + frame(PING, 0, 0, bytes(8)), PROTOCOL),
    "6.2 unknown frame inside a header block": (frame(HEADERS, 0, 1, block()) + frame(99, 0, 0), PROTOCOL),
    "6.3 PRIORITY on stream 0": (frame(PRIORITY, 0, 0, bytes(5)), PROTOCOL),
    "6.4 RST_STREAM on stream 0": (frame(RST_STREAM, 0, 0, bytes(4)), PROTOCOL),
    "6.4 RST_STREAM of 3 bytes": (OPEN + frame(RST_STREAM, 0, 1, bytes(3)), FRAME_SIZE),
    "6.5 SETTINGS on a stream": (frame(SETTINGS, 0, 1), PROTOCOL),
    "6.5 SETTINGS acknowledgement with content": (frame(SETTINGS, ACK, 0, bytes(6)), FRAME_SIZE),
    "6.5 SETTINGS of 5 bytes": (frame(SETTINGS, 0, 0, bytes(5)), FRAME_SIZE),
    "6.5.2 ENABLE_PUSH of 2": (setting(2, 2), PROTOCOL),
    "6.5.2 INITIAL_WINDOW_SIZE above 2^31-1": (setting(4, 2**31), FLOW_CONTROL),
    "6.5.2 MAX_FRAME_SIZE below 16384": (setting(5, 16383), PROTOCOL),
    "6.5.2 MAX_FRAME_SIZE above 2^24-1": (setting(5, 2**24), PROTOCOL),
    "6.6 PUSH_PROMISE of a client": (OPEN + frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + block()), PROTOCOL),
    "6.7 PING on a stream": (frame(PING, 0, 1, bytes(8)), PROTOCOL),
    "6.7 PING of 7 bytes": (frame(PING, 0, 0, bytes(7)), FRAME_SIZE),
    "6.8 GOAWAY on a stream": (frame(GOAWAY, 0, 1, bytes(8)), PROTOCOL),
    "6.9 WINDOW_UPDATE of 0 for the connection": (frame(WINDOW_UPDATE, 0, 0, bytes(4)), PROTOCOL),
    "6.9 WINDOW_UPDATE of 3 bytes": (frame(WINDOW_UPDATE, 0, 0, bytes(3)), FRAME_SIZE),
    "6.9.1 window of the connection above 2^31-1": (frame(WINDOW_UPDATE, 0, 0, U32), FLOW_CONTROL),
    "6.10 CONTINUATION without HEADERS": (frame(CONTINUATION, END_HEADERS, 1, block()), PROTOCOL),
    "6.10 CONTINUATION on stream 0": (
        frame(HEADERS, 0, 1, block()) + frame(CONTINUATION, END_HEADERS, 0), PROTOCOL,
    ),
    "6.10 CONTINUATION of another stream": (
        frame(HEADERS, 0, 1, block()) + frame(CONTINUATION, END_HEADERS, 3), PROTOCOL,
    ),
    "6.10 CONTINUATION after the end of headers": (OPEN + frame(CONTINUATION, END_HEADERS, 1), PROTOCOL),
}  # fmt: skip

MALFORMED = {
    "8.2.1 upper-case name": [*REQUEST, ("X-Name", "1")],
    "8.2.1 space in a name": [*REQUEST, ("x name", "1")],
    "8.2.1 colon in a name": [*REQUEST, ("x:name", "1")],
    "8.2.1 line break in a value": [*REQUEST, ("x", "a\r\nb")],
    "8.2.1 NUL in a value": [*REQUEST, ("x", "a\0b")],
    "8.2.2 connection": [*REQUEST, ("connection", "close")],
    "8.2.2 keep-alive": [*REQUEST, ("keep-alive", "1")],
    "8.2.2 proxy-connection": [*REQUEST, ("proxy-connection", "close")],
    "8.2.2 transfer-encoding": [*REQUEST, ("transfer-encoding", "chunked")],
    "8.2.2 upgrade": [*REQUEST, ("upgrade", "h2c")],
    "8.2.2 te other than trailers": [*without("te"), ("te", "gzip")],
    "8.3 unknown pseudo-header": [(":extra", "1"), *REQUEST],
    "8.3 pseudo-header of responses": [(":status", "200"), *REQUEST],
    "8.3 pseudo-header after others": [("x", "1"), *REQUEST],
    "8.3 pseudo-header twice": [(":path", "/a"), *REQUEST],
    "8.3.1 no method": without(":method"),
    "8.3.1 no scheme": without(":scheme"),
    "8.3.1 no path": without(":path"),
    "8.3.1 empty path": [*without(":path")[:2], (":path", ""), *without(":path")[2:]],
}

STREAM = {
    "5.1 DATA after the end of the stream": (HALF + frame(DATA, 0, 1, b"x"), {"goaway 5", "reset 5"}),
    "5.1 HEADERS after the end of the stream": (HALF + request(1), {"goaway 5", "reset 5"}),
    "6.3 PRIORITY of 4 bytes": (OPEN + frame(PRIORITY, 0, 1, bytes(4)), {"goaway 6", "reset 6"}),
    "6.9 WINDOW_UPDATE of 0 for a stream": (OPEN + frame(WINDOW_UPDATE, 0, 1, bytes(4)), {"goaway 1", "reset 1"}),
    "6.9.2 window of a stream above 2^31-1 by SETTINGS": (
        OPEN + frame(WINDOW_UPDATE, 0, 1, (2**31 - 65536).to_bytes(4, "big")) + setting(4, 70000),
        {"goaway 3", "reset 3"},
    ),
    "6.9.1 window of a stream above 2^31-1": (OPEN + frame(WINDOW_UPDATE, 0, 1, U32), {"reset 3"}),
    "8.1 trailers that do not end the stream": (
        OPEN + frame(HEADERS, END_HEADERS, 1, block([("x", "1")])), {"goaway 1", "reset 1"},
    ),
    "8.1 pseudo-header in trailers": (OPEN + request(1), {"goaway 1", "reset 1"}),
    "8.1.1 less content than content-length": (
        request(1, [*REQUEST, ("content-length", "5")], end=False) + frame(DATA, END_STREAM, 1, b"abc"),
        {"reset 1"},
    ),
    "8.1.1 more content than content-length": (
        request(1, [*REQUEST, ("content-length", "2")], end=False) + frame(DATA, END_STREAM, 1, b"abc"),
        {"reset 1"},
    ),
}  # fmt: skip

HARMLESS = {
    "4.1 unknown frame type": frame(99, 0xFF, 0, b"abc"),
    "4.1 unknown flags": frame(PING, 0xFE, 0, bytes(8)),
    "4.1 reserved bit of the stream id": frame(HEADERS, END_HEADERS | END_STREAM, 2**31 + 1, block()),
    "5.1 PRIORITY on an idle stream": frame(PRIORITY, 0, 7, bytes(4) + b"\x10"),
    "5.1 RST_STREAM on a closed stream": CLOSED + frame(RST_STREAM, 0, 1, bytes(4)),
    "5.1 WINDOW_UPDATE on a closed stream": CLOSED + frame(WINDOW_UPDATE, 0, 1, b"\0\0\0\1"),
    "6.5.2 unknown setting": setting(0xAAAA, 1),
    "6.7 unexpected acknowledgement of a PING": frame(PING, ACK, 0, bytes(8)),
    "6.10 header block in many frames": frame(HEADERS, END_STREAM, 1, block()[:5])
    + frame(CONTINUATION, 0, 1, block()[5:9])
    + frame(CONTINUATION, END_HEADERS, 1, block()[9:]),
}  # fmt: skip


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.session.close()


@pytest.mark.parametrize("case", CONNECTION)
def test_connection_errors(peer: Peer, case: str) -> None:
    """The connection ends with a GOAWAY of this code."""
    sent, code = CONNECTION[case]
    peer.open().send(sent)
    assert peer.verdict() == f"goaway {code}"
    assert not peer.session.wants_input()


@pytest.mark.parametrize("case", STREAM)
def test_stream_errors(peer: Peer, case: str) -> None:
    """The stream is reset; where the RFC allows it, the connection ends."""
    sent, verdicts = STREAM[case]
    peer.open().send(sent)
    assert peer.verdict() in verdicts


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_requests(peer: Peer, case: str) -> None:
    """The stream is reset, no request is reported, and the connection continues."""
    events = peer.open().send(request(1, MALFORMED[case]))
    assert peer.verdict() == f"reset {PROTOCOL}"
    assert not any(type(event).__name__ == "RequestReceived" for event in events)
    peer.frames.clear()
    assert [type(event).__name__ for event in peer.session.take_events()] == ["StreamClosed"]
    events = peer.send(request(3))
    assert [type(event).__name__ for event in events] == ["RequestReceived", "StreamEnded"]


@pytest.mark.parametrize("case", HARMLESS)
def test_what_must_be_tolerated(peer: Peer, case: str) -> None:
    """Nothing is reset, and the next request is served."""
    peer.open().send(HARMLESS[case])
    assert peer.verdict() == "fine"
    events = peer.send(request(9))
    assert [type(event).__name__ for event in events][-2:] == ["RequestReceived", "StreamEnded"]


def test_a_wrong_preface_closes_the_connection(peer: Peer) -> None:
    """Section 3.4: HTTP/1.1, for instance."""
    peer.send(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
    assert peer.error is not None


def test_settings_come_first(peer: Peer) -> None:
    """Section 3.4: the preface includes a SETTINGS frame."""
    peer.send(PREFACE + frame(PING, 0, 0, bytes(8)))
    assert peer.verdict() == f"goaway {PROTOCOL}"


def test_settings_and_pings_are_acknowledged(peer: Peer) -> None:
    """Sections 6.5.3 and 6.7: the PING's content comes back."""
    peer.open().send(setting(4, 100) + frame(PING, 0, 0, b"12345678"))
    settings, ping = peer.frames
    assert (settings.type, set(settings.flags)) == (SETTINGS, {"ACK"})
    assert (ping.type, set(ping.flags), ping.opaque_data) == (PING, {"ACK"}, b"12345678")


def test_too_many_streams_end_the_connection(peer: Peer) -> None:
    """Section 5.1.2: the client has acknowledged the limit, and breaks it."""
    peer.open()
    for number in range(MAX_STREAMS):
        peer.send(request(2 * number + 1, end=False))
    assert peer.verdict() == "fine"
    events = peer.send(request(2 * MAX_STREAMS + 1, end=False))
    assert peer.verdict() == f"goaway {PROTOCOL}"
    assert events == []


def test_a_stream_id_that_decreases_opens_no_stream(peer: Peer) -> None:
    """Section 5.1.1: the stream counts as closed, and what arrives for it is ignored."""
    events = peer.open().send(request(5) + request(3))
    assert [(type(event).__name__, event.stream_id) for event in events] == [  # type: ignore[union-attr]
        ("RequestReceived", 5), ("StreamEnded", 5),
    ]  # fmt: skip


@pytest.mark.parametrize(("streams", "window"), [(1, STREAM_WINDOW_BYTES), (17, CONNECTION_WINDOW_BYTES)])
def test_data_beyond_the_window_is_an_error(peer: Peer, streams: int, window: int) -> None:
    """Section 6.9.1: of a stream, and of the connection; nothing was consumed."""
    peer.open()
    for number in range(streams):
        peer.send(request(2 * number + 1, end=False))
    left, stream = window, 0
    while left:
        size = min(left, 65536)
        for _ in range(4):
            if left:
                peer.send(frame(DATA, 0, 2 * stream + 1, bytes(size)))
                left -= size
        stream += 1
    assert peer.verdict() == "fine"
    peer.send(frame(DATA, 0, 2 * streams - 1, b"x"))
    assert peer.verdict() in {f"goaway {FLOW_CONTROL}", f"reset {FLOW_CONTROL}"}


def test_consumed_data_opens_the_window_again(peer: Peer) -> None:
    """WINDOW_UPDATE frames follow `consume`, for the stream and the connection."""
    peer.open().send(request(end=False))
    for _ in range(40):
        peer.send(frame(DATA, 0, 1, bytes(65536)))
        peer.session.consume(1, 65536)
        peer.read()
    assert peer.verdict() == "fine"
    assert {one.stream_id for one in peer.frames if one.type == WINDOW_UPDATE} == {0, 1}


def test_padding_is_consumed_by_itself(peer: Peer) -> None:
    """Section 6.1: padding counts for flow control, and events do not show it."""
    peer.open().send(request(end=False))
    for _ in range(3000):
        peer.send(frame(DATA, PADDED, 1, b"\xff" + b"x" + bytes(255)))
        peer.session.consume(1, 1)
        peer.read()
    assert peer.verdict() == "fine"


def test_header_blocks_of_both_sides_stay_in_step(peer: Peer) -> None:
    """Section 4.3: the dynamic table is one per direction, also over refused requests."""
    encoder = hpack.Encoder()
    peer.open()
    for number in range(3):
        fields = [*REQUEST, ("x-number", str(number)), ("x-same", "same")]
        events = peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 2 * number + 1, encoder.encode(fields)))
        headers = events[0].headers  # type: ignore[union-attr]
        assert headers == [(name.encode(), value.encode()) for name, value in fields]
