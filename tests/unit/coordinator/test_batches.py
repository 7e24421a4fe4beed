"""Batching of a stream's messages."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from coordinator.rpc.batches import batches


async def numbers(count: int, pause_at: int | None = None, gate: asyncio.Event | None = None) -> AsyncIterator[int]:
    for number in range(count):
        if number == pause_at and gate is not None:
            await gate.wait()
        yield number


async def test_all_messages_come_in_order_and_in_bounded_batches() -> None:
    """None is lost, doubled or reordered."""
    received = [batch async for batch in batches(numbers(1_000), 64)]
    assert [number for batch in received for number in batch] == list(range(1_000))
    assert max(map(len, received)) <= 64
    assert len(received) < 40


async def test_a_lone_message_is_not_kept_waiting_for_company() -> None:
    """What is there is handed on although the stream is still open."""
    gate = asyncio.Event()
    async with aclosing(batches(numbers(2, 1, gate), 64)) as received:
        assert await anext(received) == [0]
        gate.set()
        assert await anext(received) == [1]


async def test_an_empty_stream_has_no_batches() -> None:
    """And ends."""
    assert [batch async for batch in batches(numbers(0), 64)] == []


async def test_a_sender_that_is_faster_is_not_read_ahead_of_without_bound() -> None:
    """Memory is bounded by two batches, whatever the sender does."""
    read = 0

    async def endless() -> AsyncIterator[int]:
        nonlocal read
        while True:
            read += 1
            yield read

    async with aclosing(batches(endless(), 10)) as received:
        await anext(received)
        for _ in range(100):
            await asyncio.sleep(0)
        assert read <= 40


async def test_a_broken_stream_breaks_the_batches_after_what_had_arrived() -> None:
    """Its error is passed on."""

    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ConnectionResetError

    async with aclosing(batches(broken(), 10)) as received:
        assert await anext(received) == [1]
        with pytest.raises(ConnectionResetError):
            await anext(received)
