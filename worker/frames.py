"""Framing between the agent and its prover processes: JSON values with a length prefix, over pipes.

Prover processes are spawned, not forked (gRPC's threads do not survive a fork), and read frames from their
parent only.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, BinaryIO

_LENGTH_BYTES = 4

Frame = Mapping[str, Any]


def encode(frame: Frame) -> bytes:
    """Return the encoded frame."""
    body = json.dumps(frame, separators=(",", ":")).encode()
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def receive(reader: asyncio.StreamReader) -> Frame:
    """Return the next frame; used by the agent.

    Raises:
        asyncio.IncompleteReadError: The stream has ended.
    """
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    return _decode(await reader.readexactly(length))


def read(pipe: BinaryIO) -> Frame | None:
    """Return the next frame, None at the end of the stream; used by a prover process."""
    length = pipe.read(_LENGTH_BYTES)
    if len(length) < _LENGTH_BYTES:
        return None
    body = pipe.read(int.from_bytes(length, "big"))
    return _decode(body) if len(body) == int.from_bytes(length, "big") else None


def _decode(body: bytes) -> Frame:
    frame: Frame = json.loads(body)
    return frame
