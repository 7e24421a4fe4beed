"""One connection: a stream of bytes is cut into frames, however it arrives."""

import pytest

from coordinator.raft.errors import FrameError
from coordinator.raft.transport import framing
from coordinator.raft.transport.connection import PeerConnection
from zkp.protocol.v1 import raft_pb2 as pb

SENT = [pb.Envelope(cluster_id="c", sequence=number, vote=pb.Vote(term=number)) for number in range(1, 6)]
STREAM = b"".join(framing.pack(envelope) for envelope in SENT)


def receive(link: PeerConnection, data: bytes) -> None:
    """Give the connection bytes as an event loop does: in its own buffer."""
    while data:
        buffer = link.get_buffer(-1)
        size = min(len(data), len(buffer))
        buffer[:size] = data[:size]
        link.buffer_updated(size)
        data = data[size:]


class Listener:
    """Takes frames until one of them is one too many."""

    def __init__(self, refuse: int = 0) -> None:
        self.frames: list[pb.Envelope] = []
        self.errors: list[str] = []
        self._refuse = refuse

    def on_frame(self, envelope: pb.Envelope) -> None:
        if envelope.sequence == self._refuse:
            raise FrameError("not this one")
        self.frames.append(envelope)

    def on_broken(self, error: FrameError) -> None:
        self.errors.append(str(error))


@pytest.mark.parametrize("piece", [1, 2, 3, 7, len(STREAM)])
async def test_frames_are_whole_whatever_the_pieces(piece: int) -> None:
    """Byte by byte or all at once: the same frames in the same order."""
    link, listener = PeerConnection(None), Listener()
    link.listen(listener.on_frame, listener.on_broken)
    for start in range(0, len(STREAM), piece):
        receive(link, STREAM[start : start + piece])
    assert listener.frames == SENT
    assert not listener.errors


async def test_nothing_is_handed_over_before_somebody_listens() -> None:
    """Who listens knows by then from whom it comes; what had arrived is not lost."""
    link, listener = PeerConnection(None), Listener()
    receive(link, STREAM)
    link.listen(listener.on_frame, listener.on_broken)
    assert listener.frames == SENT


@pytest.mark.parametrize(
    ("nonsense", "message"),
    [
        (bytes.fromhex("80000000") + b"more", "frame of 2147483648 bytes"),
        (b"\x00\x00\x00\x00", "frame of 0 bytes"),
        (b"\x00\x00\x00\x02\xff\xff", "not an envelope"),
    ],
)
async def test_after_nonsense_nothing_more_is_read(nonsense: bytes, message: str) -> None:
    """The frames before it count; whatever follows might be anything."""
    link, listener = PeerConnection(None), Listener()
    link.listen(listener.on_frame, listener.on_broken)
    receive(link, STREAM + nonsense + STREAM)
    receive(link, STREAM)
    assert listener.frames == SENT
    assert len(listener.errors) == 1
    assert message in listener.errors[0]


@pytest.mark.parametrize(
    ("numbers", "message"),
    [((1, 3), "frame 3 came where frame 2 was due"), ((1, 1), "frame 1 came where frame 2 was due")],
    ids=["lost", "repeated"],
)
async def test_a_frame_out_of_order_ends_the_reading(numbers: tuple[int, ...], message: str) -> None:
    """Raft's messages are taken for what they say in the order in which they were sent."""
    link, listener = PeerConnection(None), Listener()
    link.listen(listener.on_frame, listener.on_broken)
    receive(link, b"".join(framing.pack(SENT[number - 1]) for number in numbers))
    assert (listener.frames, listener.errors) == (SENT[:1], [message])


async def test_a_frame_that_the_node_refuses_ends_the_reading() -> None:
    """As nonsense does."""
    link, listener = PeerConnection(None), Listener(refuse=3)
    link.listen(listener.on_frame, listener.on_broken)
    receive(link, STREAM)
    assert (listener.frames, listener.errors) == (SENT[:2], ["not this one"])
