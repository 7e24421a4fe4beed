"""Batching of a stream: messages that arrive while one batch is processed form the next."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

Message = TypeVar("Message")


async def batches(messages: AsyncIterator[Message], size: int) -> AsyncGenerator[list[Message], None]:
    """Yield lists of 1 to `size` messages, in order. Reads at most two batches ahead.

    An error of `messages` is raised after the messages before it.
    """
    waiting: list[Message] = []
    changed = asyncio.Event()
    space = asyncio.Event()
    space.set()

    async def read() -> None:
        try:
            async for message in messages:
                waiting.append(message)
                changed.set()
                if len(waiting) >= 2 * size:
                    space.clear()
                    await space.wait()
        finally:
            changed.set()

    reader = asyncio.create_task(read(), name="reads a stream")
    try:
        while True:
            await changed.wait()
            if waiting:
                batch = waiting[:size]
                del waiting[:size]
                space.set()
                yield batch
            elif reader.done():
                reader.result()
                return
            else:
                changed.clear()
    finally:
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([reader])
