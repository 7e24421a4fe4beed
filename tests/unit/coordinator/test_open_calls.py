"""Ending the calls of a certificate that was revoked."""

import asyncio

import pytest

from coordinator.rpc.open_calls import OpenCalls


async def call(calls: OpenCalls, serial: int) -> None:
    """One that is open until it is ended."""
    async with asyncio.timeout(None) as limit:
        with calls.holding(serial, limit):
            await asyncio.Event().wait()


async def test_the_calls_of_the_certificate_end_and_no_others() -> None:
    """All of them, however many there are."""
    calls = OpenCalls()
    first, second, other = (asyncio.create_task(call(calls, serial)) for serial in (1, 1, 2))
    await asyncio.sleep(0)

    calls.end({1, 3})

    for ended in (first, second):
        with pytest.raises(TimeoutError):
            await ended
    assert not other.done()
    calls.end({2})
    calls.end({2})  # it is on its way out already
    with pytest.raises(TimeoutError):
        await other


async def test_calls_that_have_ended_leave_nothing_behind() -> None:
    """However they ended."""
    calls = OpenCalls()
    task = asyncio.create_task(call(calls, 1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    calls.end({1})
    assert calls._limits == {}
