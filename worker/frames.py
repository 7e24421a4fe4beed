"""What the agent and its prover processes say to each other over pipes: JSON values, each after its length.

Prover processes are started anew (not forked: gRPC's threads do not survive a fork) and read nothing but
this, from their parent alone.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, BinaryIO

_LENGTH_BYTES = 4

Frame = Mapping[str, Any]


def encode(frame: Frame) -> bytes:
    """The frame as it goes through the pipe."""
    body = json.dumps(frame, separators=(",", ":")).encode()
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def receive(reader: asyncio.StreamReader) -> Frame:
    """The next frame, in the agent; raises `asyncio.IncompleteReadError` at the end."""
    length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
    return _decode(await reader.readexactly(length))


def read(pipe: BinaryIO) -> Frame | None:
    """The next frame, in a prover process; None at the end."""
    length = pipe.read(_LENGTH_BYTES)
    if len(length) < _LENGTH_BYTES:
        return None
    body = pipe.read(int.from_bytes(length, "big"))
    return _decode(body) if len(body) == int.from_bytes(length, "big") else None


def _decode(body: bytes) -> Frame:
    frame: Frame = json.loads(body)
    return frame
