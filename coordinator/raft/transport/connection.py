"""One connection to a peer: cuts the byte stream into numbered frames, and knows when it was made, with what."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable
from typing import cast

from coordinator.raft.errors import FrameError
from coordinator.raft.transport import framing
from zkp.protocol.v1 import raft_pb2 as pb

_ROUND_TRIP = struct.Struct("68xI")  # linux/tcp.h, struct tcp_info: tcpi_rtt, in microseconds

_BUFFER_BYTES = 64 * 1024


class PeerConnection(asyncio.BufferedProtocol):
    """Connection that keeps received frames until `listen` is called, when the peer is authenticated.

    made_with: the credentials of the day; another object after a reload that brought something new.
    """

    def __init__(self, made_with: object) -> None:
        loop = asyncio.get_running_loop()
        self.made_with = made_with
        self.made_at = loop.time()
        self.closed: asyncio.Future[None] = loop.create_future()
        self.stale: asyncio.Future[None] = loop.create_future()
        """Done once the connection is to be re-made."""
        self.on_closed: Callable[[Exception | None], None] | None = None
        self._heard: asyncio.Future[None] = loop.create_future()
        self._transport: asyncio.Transport | None = None
        self._tls: ssl.SSLObject | None = None
        self._on_frame: Callable[[pb.Envelope], None] | None = None
        self._on_broken: Callable[[FrameError], None] | None = None
        # An asyncio.Protocol over TLS would get every part in a new object of 256 KiB, often mapped and unmapped.
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._received = bytearray()
        self._sent_frames = self._taken_frames = 0

    # ------------------------------------------------------------ asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport and its TLS object."""
        self._transport = cast("asyncio.Transport", transport)
        self._tls = transport.get_extra_info("ssl_object")

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        """Return the buffer of this connection."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Process received bytes."""
        self._received += self._buffer[:nbytes]
        _settle(self._heard)
        self._take_frames()

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end of the connection."""
        self._on_frame = None
        _settle(self.closed)
        if self.on_closed is not None:
            self.on_closed(exc)

    # ------------------------------------------------------------ ours

    def tls(self) -> ssl.SSLObject:
        """The connection's TLS; there is one once the handshake is done."""
        if self._tls is None:
            raise ConnectionResetError("the peer went away")
        return self._tls

    async def heard(self) -> None:
        """Return at the peer's first bytes; raises ConnectionResetError when it closes instead."""
        await asyncio.wait((self._heard, self.closed), return_when=asyncio.FIRST_COMPLETED)
        if not self._heard.done():
            raise ConnectionResetError("the peer closed the connection: it may refuse this node's certificate")

    def listen(self, on_frame: Callable[[pb.Envelope], None], on_broken: Callable[[FrameError], None]) -> None:
        """Hand over every frame, beginning with those that have arrived; on_frame may raise FrameError."""
        self._on_frame, self._on_broken = on_frame, on_broken
        self._take_frames()

    def send(self, envelope: pb.Envelope) -> None:
        """Number the frame and queue it."""
        self._sent_frames += 1
        envelope.sequence = self._sent_frames
        if self._transport is not None:
            self._transport.write(framing.pack(envelope))

    def backlog(self) -> int:
        """Bytes that were written and have not left yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def round_trip(self) -> float:
        """The kernel's smoothed round trip, in seconds; 0 before it has one."""
        own = None if self._transport is None else self._transport.get_extra_info("socket")
        if own is None:
            return 0.0
        try:
            information = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _ROUND_TRIP.size)
        except OSError:  # it is being closed
            return 0.0
        return float(_ROUND_TRIP.unpack(information)[0]) / 1e6

    def mark_stale(self) -> None:
        """The connection is to be re-made."""
        _settle(self.stale)

    def close(self) -> None:
        """At once; `on_closed` is called a moment later."""
        self._on_frame = None
        if self._transport is not None:
            self._transport.abort()

    def _take_frames(self) -> None:
        """Hand over every whole frame that has arrived."""
        start, prefix = 0, framing.LENGTH.size
        try:
            while self._on_frame is not None and len(self._received) >= start + prefix:
                length = framing.body_length(bytes(self._received[start : start + prefix]))
                end = start + prefix + length
                if len(self._received) < end:
                    break
                self._on_frame(self._in_order(framing.unpack(bytes(self._received[start + prefix : end]))))
                start = end
        except FrameError as error:
            self._on_frame = None
            if self._on_broken is not None:
                self._on_broken(error)
        del self._received[:start]

    def _in_order(self, envelope: pb.Envelope) -> pb.Envelope:
        """Raises FrameError unless it is the frame that follows the last one: what Raft assumes of a connection."""
        self._taken_frames += 1
        if envelope.sequence != self._taken_frames:
            raise FrameError(f"frame {envelope.sequence} came where frame {self._taken_frames} was due")
        return envelope


def _settle(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
