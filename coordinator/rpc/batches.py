"""Messages of a stream in handfuls: whatever arrived while the last handful was dealt with comes in the next."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

Message = TypeVar("Message")


async def batches(messages: AsyncIterator[Message], size: int) -> AsyncGenerator[list[Message], None]:
    """Lists of 1 to `size` messages, in order. Reads at most two handfuls ahead; raises what `messages` raises."""
    waiting: list[Message] = []
    changed = asyncio.Event()
    room = asyncio.Event()
    room.set()

    async def read() -> None:
        try:
            async for message in messages:
                waiting.append(message)
                changed.set()
                if len(waiting) >= 2 * size:
                    room.clear()
                    await room.wait()
        finally:
            changed.set()

    reader = asyncio.create_task(read(), name="reads a stream")
    try:
        while True:
            await changed.wait()
            if waiting:
                handful = waiting[:size]
                del waiting[:size]
                room.set()
                yield handful
            elif reader.done():
                reader.result()
                return
            else:
                changed.clear()
    finally:
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([reader])
