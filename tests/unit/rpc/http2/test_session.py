"""A session beyond the RFC's rules: answers, bounds, splits of the byte stream, floods, the life of its memory."""

import gc
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

import pytest
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, PingFrame, RstStreamFrame
from hypothesis import given, settings
from hypothesis import strategies as st

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
from coordinator.rpc.http2.session import MAX_HEADER_LIST_BYTES, HeaderBlock
from tests.unit.rpc.http2.peer import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    REQUEST,
    RST_STREAM,
    SETTINGS,
    Peer,
    block,
    frame,
    request,
)

OK = HeaderBlock([(b":status", b"200"), (b"content-type", b"application/grpc")])
TRAILERS = HeaderBlock([(b"grpc-status", b"0")])


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer().open()
    yield made
    made.session.close()


def test_an_answer_with_body_and_trailers(peer: Peer) -> None:
    """Headers, data, trailers: in this order, the last with END_STREAM."""
    peer.send(request(1))
    peer.session.send_headers(1, OK)
    peer.session.send_data(1, b"hello ")
    peer.session.send_data(1, b"world")
    peer.session.send_trailers(1, TRAILERS)
    peer.read()
    assert [type(one) for one in peer.frames] == [HeadersFrame, DataFrame, HeadersFrame]
    assert peer.frames[1].data == b"hello world"
    assert peer.headers() == [(":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "0")]
    assert [set(one.flags) & {"END_STREAM"} for one in peer.frames] == [set(), set(), {"END_STREAM"}]
    assert peer.session.take_events() == [StreamClosed(1, 0)]


def test_an_answer_of_headers_alone(peer: Peer) -> None:
    """A refusal is one frame."""
    peer.send(request(1))
    peer.session.send_headers(1, OK, end=True)
    peer.read()
    assert [type(one) for one in peer.frames] == [HeadersFrame]
    assert "END_STREAM" in peer.frames[0].flags


def test_an_empty_body_sends_no_data_frame(peer: Peer) -> None:
    """Headers and trailers only."""
    peer.send(request(1))
    peer.session.send_headers(1, OK)
    peer.session.send_trailers(1, TRAILERS)
    peer.read()
    assert [type(one) for one in peer.frames] == [HeadersFrame, HeadersFrame]


def test_a_body_in_parts_over_time(peer: Peer) -> None:
    """Data that is added later is sent later."""
    peer.send(request(1))
    peer.session.send_headers(1, OK)
    for part in (b"a", b"b"):
        peer.read()
        peer.session.send_data(1, part)
        peer.read()
        assert peer.frames[-1].data == part
    peer.session.send_trailers(1, TRAILERS)
    peer.read()
    assert isinstance(peer.frames[-1], HeadersFrame)


def test_an_answer_before_the_end_of_the_request_resets_the_rest(peer: Peer) -> None:
    """The whole answer arrives first; NO_ERROR asks the client to stop sending (RFC 9113, section 8.1)."""
    peer.send(request(1, end=False))
    peer.session.send_headers(1, OK)
    peer.session.send_data(1, b"x" * 40000)
    peer.session.send_trailers(1, TRAILERS)
    peer.read()
    kinds = [type(one) for one in peer.frames]
    assert kinds[-2:] == [HeadersFrame, RstStreamFrame]
    assert peer.frames[-1].error_code == ErrorCode.NO_ERROR
    assert sum(len(one.data) for one in peer.of(DataFrame)) == 40000


def test_a_large_body_waits_for_the_window(peer: Peer) -> None:
    """RFC 9113, section 6.9.1: 65,535 bytes at first; the rest when the client allows it, whole and in order."""
    body = bytes(range(256)) * 1000
    peer.send(request(1))
    peer.session.send_headers(1, OK)
    peer.session.send_data(1, body)
    peer.session.send_trailers(1, TRAILERS)
    peer.read()
    assert sum(len(one.data) for one in peer.of(DataFrame)) == 65535
    assert peer.session.unsent_bytes(1) == peer.session.held == len(body) - 65535
    increase = (1 << 20).to_bytes(4, "big")
    peer.send(frame(8, 0, 0, increase) + frame(8, 0, 1, increase))
    assert b"".join(one.data for one in peer.of(DataFrame)) == body
    assert peer.session.held == 0
    assert isinstance(peer.frames[-1], HeadersFrame)


def test_what_a_reset_stream_had_to_send_is_dropped(peer: Peer) -> None:
    """Its memory is given back, and later answers to it are ignored."""
    peer.send(request(1))
    peer.session.send_headers(1, OK)
    peer.session.send_data(1, bytes(100_000))
    peer.read()
    events = peer.send(frame(RST_STREAM, 0, 1, (8).to_bytes(4, "big")))
    assert events == [StreamClosed(1, ErrorCode.CANCEL)]
    assert peer.session.held == 0
    peer.session.send_data(1, b"late")
    peer.session.send_trailers(1, TRAILERS)
    peer.frames.clear()
    peer.read()
    assert peer.frames == []


def test_a_header_list_beyond_the_limit_is_rejected(peer: Peer) -> None:
    """Its fields are not kept; the stream can be answered, and the connection continues."""
    many = [*REQUEST, *((f"x-{number}", "v" * 100) for number in range(MAX_HEADER_LIST_BYTES // 100))]
    assert peer.send(request(1, many)) == [RequestRejected(1), StreamEnded(1)]
    peer.session.send_headers(1, OK, end=True)
    peer.read()
    assert [type(event) for event in peer.send(request(3))[-2:]] == [RequestReceived, StreamEnded]


def test_draining_ignores_later_streams(peer: Peer) -> None:
    """Streams that are open get their answers; the GOAWAY names the last of them."""
    peer.send(request(1))
    peer.session.go_away()
    peer.read()
    (goodbye,) = peer.of(GoAwayFrame)
    assert (goodbye.last_stream_id, goodbye.error_code) == (1, 0)
    assert peer.send(request(3)) == []
    peer.session.send_headers(1, OK, end=True)
    peer.read()
    assert isinstance(peer.frames[-1], HeadersFrame)


@pytest.mark.parametrize("split", [1, 5, 17, 40])
def test_the_last_ping_is_acknowledged_after_a_goodbye(peer: Peer, split: int) -> None:
    """Also without an open stream, when the library reads no more, and however the bytes are cut."""
    peer.session.go_away()
    peer.session.ping()
    peer.read()
    (ping,) = peer.of(PingFrame)
    late = frame(8, 0, 0, b"\0\0\1\0") + frame(PING, ACK, 0, ping.opaque_data)
    events = [event for start in range(0, len(late), split) for event in peer.send(late[start : start + split])]
    assert events == [PingReceived(acknowledges=True)]


@pytest.mark.parametrize(
    "flood",
    [
        frame(DATA, 0, 1),
        frame(DATA, PADDED, 1, b"\0"),
        frame(PRIORITY, 0, 1, bytes(4) + b"\x01"),
        frame(SETTINGS),
        frame(PING, 0, 0, bytes(8)),
        frame(RST_STREAM, 0, 1, bytes(4)),
    ],
    ids=["empty DATA", "padding alone", "PRIORITY", "SETTINGS", "PING", "RST_STREAM"],
)
def test_floods_of_frames(peer: Peer, flood: bytes) -> None:
    """100,000 frames without content: the session ends, or they cost nothing that grows."""
    peer.send(request(1, end=False))
    for _ in range(100):
        if peer.error is None and peer.session.wants_input():
            try:
                peer.session.receive(flood * 1000)  # its answers are not read
            except Http2Error as error:
                peer.error = error
    if flood[3] == RST_STREAM:
        assert len(peer.session.data_to_send(1 << 20)) < 1000
    else:
        assert peer.error is not None


def test_a_flood_of_resets(peer: Peer) -> None:
    """Streams that are opened and reset at once (CVE-2023-44487) end the connection."""
    last = 0
    for number in range(100_000):
        last = 2 * number + 1
        peer.send(request(last) + frame(RST_STREAM, 0, last, (8).to_bytes(4, "big")))
        if peer.error is not None or not peer.session.wants_input():
            break
    assert last < 2 * 20_000
    assert peer.of(GoAwayFrame)


def test_a_flood_of_continuations(peer: Peer) -> None:
    """A header block without an end (CVE-2024-28182) ends the connection before it takes memory."""
    peer.session.receive(frame(HEADERS, 0, 1, block()))
    endless = frame(CONTINUATION, 0, 1, block([("x", "y" * 1000)]))
    received = 0
    while peer.session.wants_input():
        received += 1
        try:
            peer.session.receive(endless)
        except Http2Error:
            break
    assert received < 100


def test_a_closed_session_is_freed() -> None:
    """Nothing refers to it, and it refuses to work instead of reading freed memory."""
    peer = Peer().open()
    session = peer.session
    peer.send(request(1))
    session.close()
    session.close()
    assert session.data_to_send(100) == b""
    assert not session.wants_input()
    uses: list[Callable[[], object]] = [
        partial(session.receive, b"x"), partial(session.consume, 1, 1), session.ping, session.go_away,
        partial(session.reset, 1, ErrorCode.CANCEL), partial(session.terminate, ErrorCode.CANCEL),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(Http2Error, match="closed"):
            use()
    gone = weakref.ref(session)
    del session, peer, use, uses
    gc.collect()
    assert gone() is None


RECORDED = (
    PREFACE
    + frame(SETTINGS, payload=(4).to_bytes(2, "big") + (1 << 20).to_bytes(4, "big"))
    + frame(SETTINGS, ACK)
    + request(1, end=False)
    + frame(DATA, 0, 1, b"\0\0\0\0\x05hello")
    + frame(DATA, PADDED | END_STREAM, 1, b"\x03\0\0\0\0\x01x" + bytes(3))
    + frame(PING, 0, 0, b"12345678")
    + frame(HEADERS, 0, 3, block()[:10])
    + frame(CONTINUATION, END_HEADERS, 3, block()[10:])
    + frame(RST_STREAM, 0, 3, (8).to_bytes(4, "big"))
    + request(5)
)


def merged(events: list[Event]) -> list[Event]:
    """Join neighbouring parts of one body."""
    found: list[Event] = []
    for event in events:
        before = found[-1] if found else None
        if isinstance(event, DataReceived) and isinstance(before, DataReceived):
            found[-1] = DataReceived(event.stream_id, before.data + event.data)
        else:
            found.append(event)
    return found


def events_of(parts: list[bytes]) -> list[Event]:
    session = Http2Session()
    try:
        events = [event for part in parts for event in session.receive(part)]
        session.data_to_send(1 << 20)
        return merged(events)
    finally:
        session.close()


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(1, len(RECORDED) - 1), max_size=60))
def test_splits_do_not_matter(cuts: list[int]) -> None:
    """However the bytes arrive, the events are the same, except that a body may come in parts."""
    bounds = [0, *sorted(set(cuts)), len(RECORDED)]
    parts = [RECORDED[start:end] for start, end in pairwise(bounds)]
    assert events_of(parts) == events_of([RECORDED])


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=400), st.booleans())
def test_any_bytes(noise: bytes, framed: bool) -> None:
    """They end the session or do nothing; nothing else is raised."""
    session = Http2Session()
    try:
        session.receive(PREFACE + frame(SETTINGS))
        session.receive(
            frame(noise[0] % 12, noise[1], noise[2] % 5, noise[3:]) if framed and len(noise) > 3 else noise
        )
        session.data_to_send(1 << 20)
    except Http2Error:
        pass
    finally:
        session.close()
