"""A client of the gRPC server that sends single HTTP/2 frames over TLS."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from hyperframe.frame import Frame, GoAwayFrame, PingFrame, SettingsFrame

from tests.unit.rpc.http2.peer import ACK, PREFACE, SETTINGS, frame, parsed

HOST = "127.0.0.1"


class RawClient:
    """An open connection; `frames` has what arrived."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool = True) -> None:
        self.reader = reader
        self.writer = writer
        self.frames: list[Any] = []
        self.closed = asyncio.Event()
        self.answers = answers
        self._unparsed = b""
        self._reading: asyncio.Task[None] | None = None

    async def send(self, data: bytes) -> None:
        """Send bytes; a connection that was closed meanwhile is no error."""
        with suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    def start_reading(self) -> None:
        """Read and parse what arrives from now on."""
        self._reading = asyncio.create_task(self._read())

    def of(self, kind: type[Frame]) -> list[Any]:
        """Return the received frames of a kind."""
        return [one for one in self.frames if isinstance(one, kind)]

    async def goodbye(self) -> Any:
        """Return the GOAWAY that ends the connection."""
        async with asyncio.timeout(20):
            await self.closed.wait()
        return self.of(GoAwayFrame)[-1]

    async def _read(self) -> None:
        with suppress(OSError):
            while data := await self.reader.read(65536):
                self._unparsed += data
                self._parse()
        self.closed.set()

    def _parse(self) -> None:
        end = 0
        while len(self._unparsed) - end >= 9:
            size = 9 + int.from_bytes(self._unparsed[end : end + 3], "big")
            if len(self._unparsed) - end < size:
                break
            for one in parsed(self._unparsed[end : end + size]):
                self.frames.append(one)
                if isinstance(one, PingFrame) and "ACK" not in one.flags and self.answers:
                    self.writer.write(frame(6, ACK, 0, one.opaque_data))
                elif isinstance(one, SettingsFrame) and "ACK" not in one.flags and self.answers:
                    self.writer.write(frame(SETTINGS, ACK))
            end += size
        self._unparsed = self._unparsed[end:]

    async def close(self) -> None:
        """Close without a goodbye."""
        if self._reading is not None:
            self._reading.cancel()
            with suppress(asyncio.CancelledError):
                await self._reading
        self.writer.transport.abort()
        with suppress(OSError):
            await self.writer.wait_closed()


@asynccontextmanager
async def raw(
    port: int,
    context: ssl.SSLContext,
    *,
    preface: bytes = PREFACE + frame(SETTINGS),
    reads: bool = True,
    answers: bool = True,
) -> AsyncIterator[RawClient]:
    """Connect. `reads`: whether it ever reads; `answers`: whether it acknowledges PINGs and SETTINGS."""
    reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
    client = RawClient(reader, writer, answers=answers)
    try:
        await client.send(preface)
        if reads:
            client.start_reading()
        else:
            writer.transport.pause_reading()  # type: ignore[attr-defined]
        yield client
    finally:
        await client.close()
