"""The parts of a daemon's life that need no process: reloads, failures, the watchdog's rhythm."""

import asyncio
import logging

import pytest

from zkp.daemon.lifecycle import Lifecycle
from zkp.daemon.notify import Notifier


@pytest.fixture
async def life() -> Lifecycle:
    """A life that nobody supervises."""
    return Lifecycle(Notifier({}, 1))


async def test_reload_callbacks_run_in_order_and_one_reload_at_a_time(life: Lifecycle) -> None:
    """Plain and asynchronous callbacks are called in turn; a second reload waits for the first."""
    calls: list[str] = []
    gate = asyncio.Event()

    async def slow() -> None:
        calls.append("slow begins")
        await gate.wait()
        calls.append("slow ends")

    life.on_reload(slow)
    life.on_reload(lambda: calls.append("plain"))
    reloads = asyncio.gather(life.reload(), life.reload())
    await asyncio.sleep(0)
    gate.set()
    await reloads
    assert calls == ["slow begins", "slow ends", "plain"] * 2


async def test_a_background_failure_stops_the_daemon(life: Lifecycle, caplog: pytest.LogCaptureFixture) -> None:
    """The stop is asked for, the exit code is 1, and the line names the task."""

    async def broken() -> None:
        raise RuntimeError("torn")

    life.background(broken(), name="pump")
    await life.stop.wait()
    assert life.exit_code == 1
    assert [record.getMessage() for record in caplog.records] == ["pump failed, stopping"]


async def test_background_work_may_end_or_be_cancelled(life: Lifecycle, caplog: pytest.LogCaptureFixture) -> None:
    """An end without an error is no failure, and neither is a cancellation."""
    caplog.set_level(logging.DEBUG, "zkp")

    async def work() -> None:
        pass

    await life.background(work(), name="short")
    endless = life.background(asyncio.Event().wait(), name="endless")  # type: ignore[arg-type]  # True, never
    await life.cancel_background()
    assert endless.cancelled()
    assert not life.stop.is_set()
    assert life.exit_code == 0
    assert caplog.records == []


@pytest.mark.parametrize(
    ("environ", "interval"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdogs_rhythm(environ: dict[str, str], interval: float | None) -> None:
    """Half of what systemd allows, when it waits for this process at all."""
    assert Notifier(environ, 42).watchdog_interval == interval
