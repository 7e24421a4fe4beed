"""A daemon from start to exit: signals, reload, fatal background tasks, systemd, a stop that ends.

async def main(life: Lifecycle) -> None:
    server = await start(...)
    life.background(pump(), name="pump")   # its failure ends the process
    life.on_reload(material.reload)        # SIGHUP
    life.ready("serving")
    await life.stop.wait()                 # SIGTERM, SIGINT, or a fatal failure
    await server.stop()

raise SystemExit(run(main))
"""

import asyncio
import inspect
import logging
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Self

import uvloop

from zkp.daemon.errors import DaemonError
from zkp.daemon.notify import Notifier

log = logging.getLogger("zkp.daemon")

Main = Callable[["Lifecycle"], Coroutine[Any, Any, None]]
Reload = Callable[[], Awaitable[object] | object]

_CANCELLED_SECONDS = 5.0
_STUCK_EXIT = 70  # EX_SOFTWARE of sysexits.h


class _ShutdownWatchdog:
    """Ends the process from a thread, whatever the event loop and other threads wait for."""

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._started = False

    def start(self) -> None:
        """The stop begins."""
        if not self._started:
            self._started = True
            self._timer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    @staticmethod
    def _end() -> None:
        log.critical("shutdown timed out; exiting")
        os._exit(_STUCK_EXIT)


class Lifecycle:
    """What a daemon's main coroutine is given. To be used in its event loop, but for `fail`."""

    def __init__(self, notifier: Notifier, stopping: Callable[[], None] = lambda: None) -> None:
        """stopping: called when the stop begins, before anybody who waits for it wakes up."""
        self.stop = asyncio.Event()
        """Set once the process is to stop, for whatever reason. To be waited for; `begin_stop` sets it."""
        self.exit_code = 0
        self._notifier = notifier
        self._stopping = stopping
        self._loop = asyncio.get_running_loop()
        self._background: set[asyncio.Task[None]] = set()
        self._reloads: list[Reload] = []
        self._reloading = asyncio.Lock()
        self._ready = False

    def ready(self, status: str = "") -> None:
        """The daemon serves now. status: a line for `systemctl status`."""
        self._ready = True
        self._notifier.ready(status)

    def status(self, text: str) -> None:
        """Change the line for `systemctl status`."""
        self._notifier.status(text)

    def on_reload(self, callback: Reload) -> None:
        """Call this on SIGHUP, after those that were given before. When it raises, the daemon goes on."""
        self._reloads.append(callback)

    def background(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run beside main. An exception ends the process; what still runs after main is cancelled."""
        task = self._loop.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._background_ended)
        return task

    def begin_stop(self) -> None:
        """Stop in order, as SIGTERM does."""
        self._stopping()
        self.stop.set()

    def fail(self, reason: str, error: BaseException | None = None) -> None:
        """End the process with a non-zero exit, stopping in order. May be called from any thread."""
        self._loop.call_soon_threadsafe(self._fail, reason, error)

    def _fail(self, reason: str, error: BaseException | None) -> None:
        expected = error is None or isinstance(error, DaemonError)
        text = f"{reason}: {error}" if error is not None and expected else reason
        log.critical("%s", text, exc_info=None if expected else error)
        self.exit_code = 1
        self.begin_stop()

    def _background_ended(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(f"{task.get_name()} failed, stopping", error)

    async def reload(self) -> None:
        """Call every reload callback, one reload at a time."""
        async with self._reloading:
            self._notifier.reloading()
            failed = False
            for callback in self._reloads:
                try:
                    result = callback()
                    if inspect.isawaitable(result):
                        await result
                except Exception as error:  # noqa: BLE001 - whatever it is, what ran before goes on
                    failed = True
                    log.error("reload failed, the previous stays in use: %s", error)
            if not failed:
                log.info("reloaded")
            if self._ready:
                self._notifier.ready()

    async def cancel_background(self) -> None:
        """Cancel what still runs beside main, and wait for it."""
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCELLED_SECONDS)


def run(main: Main, *, stop_timeout: float = 30.0, environ: Mapping[str, str] = os.environ) -> int:
    """Run `main` on uvloop until it returns; the exit code: 0, or 1 after a failure.

    stop_timeout: seconds that main may take to return once it is to stop; then it is cancelled. A process
    that is stuck even so ends itself with code 70. A second SIGTERM or SIGINT cancels main at once.
    """
    notifier = Notifier(environ, os.getpid())
    last_resort = _ShutdownWatchdog(stop_timeout + 2 * _CANCELLED_SECONDS)
    with last_resort, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_supervise(main, notifier, last_resort, stop_timeout))


async def _supervise(main: Main, notifier: Notifier, last_resort: _ShutdownWatchdog, stop_timeout: float) -> int:
    life = Lifecycle(notifier, last_resort.start)
    task = asyncio.get_running_loop().create_task(main(life), name="main")
    _handle_signals(life, task)
    watchdog = asyncio.create_task(_watchdog(notifier))
    try:
        stopping = asyncio.create_task(life.stop.wait())
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        notifier.stopping()
        last_resort.start()
        await _finish(life, task, stop_timeout)
    finally:
        watchdog.cancel()
        await life.cancel_background()
    return life.exit_code


async def _finish(life: Lifecycle, task: asyncio.Task[None], stop_timeout: float) -> None:
    """Give main its time to return, and judge how it ended."""
    _, unfinished = await asyncio.wait({task}, timeout=stop_timeout)
    if unfinished:
        log.error("did not stop within %g seconds, cancelling what is left", stop_timeout)
        life.exit_code = 1
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCELLED_SECONDS)
    _judge(life, task)


def _judge(life: Lifecycle, task: asyncio.Task[None]) -> None:
    """What main's end means for the exit code."""
    if not task.done() or task.cancelled():
        life.exit_code = 1
        return
    error = task.exception()
    if isinstance(error, DaemonError):
        log.critical("%s", error)
    elif error is not None:
        log.critical("ended by an unexpected error", exc_info=error)
    if error is not None:
        life.exit_code = 1


def _handle_signals(life: Lifecycle, task: asyncio.Task[None]) -> None:
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def stop(name: str) -> None:
        if life.stop.is_set():
            log.warning("%s again, stopping immediately", name)
            task.cancel()
            return
        log.info("%s, stopping", name)
        life.begin_stop()

    def reload() -> None:
        running = loop.create_task(life.reload())
        reloads.add(running)  # the loop itself holds tasks weakly
        running.add_done_callback(reloads.discard)

    loop.add_signal_handler(signal.SIGTERM, stop, "SIGTERM")
    loop.add_signal_handler(signal.SIGINT, stop, "SIGINT")
    loop.add_signal_handler(signal.SIGHUP, reload)


async def _watchdog(notifier: Notifier) -> None:
    """Sent from the event loop, so that a loop that hangs is found out."""
    while notifier.watchdog_interval is not None:
        notifier.watchdog()
        await asyncio.sleep(notifier.watchdog_interval)
