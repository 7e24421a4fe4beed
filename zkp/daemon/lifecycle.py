"""Life cycle of a daemon: signals, reload, background tasks, systemd, and a stop with a deadline.

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

_CANCEL_TIMEOUT_S = 5.0
_TIMEOUT_EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h


class _ShutdownWatchdog:
    """Exits the process from a thread if the stop takes too long, even if the event loop is blocked."""

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self._started = False

    def start(self) -> None:
        """Start the timer, once."""
        if not self._started:
            self._started = True
            self._timer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    @staticmethod
    def _end() -> None:
        log.critical("shutdown timed out, exiting")
        os._exit(_TIMEOUT_EXIT_CODE)


class Lifecycle:
    """Interface of a daemon's main coroutine to its process. Not thread-safe, except for `fail`."""

    def __init__(self, notifier: Notifier, stopping: Callable[[], None] = lambda: None) -> None:
        """Args: stopping: Called at the start of the stop, before `stop` is set."""
        self.stop = asyncio.Event()
        """Set when the process must stop, for any reason. Only to be waited for; `begin_stop` sets it."""
        self.exit_code = 0
        self._notifier = notifier
        self._stopping = stopping
        self._loop = asyncio.get_running_loop()
        self._background: set[asyncio.Task[None]] = set()
        self._reloads: list[Reload] = []
        self._reloading = asyncio.Lock()
        self._ready = False

    def ready(self, status: str = "") -> None:
        """Notify systemd that the daemon is ready, with a line for `systemctl status`."""
        self._ready = True
        self._notifier.ready(status)

    def status(self, text: str) -> None:
        """Change the line for `systemctl status`."""
        self._notifier.status(text)

    def on_reload(self, callback: Reload) -> None:
        """Call this on SIGHUP, after earlier callbacks. The daemon continues if it raises."""
        self._reloads.append(callback)

    def background(self, work: Coroutine[Any, Any, None], *, name: str) -> asyncio.Task[None]:
        """Run a task beside main. Its exception stops the process; it is cancelled when main has returned."""
        task = self._loop.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._background_ended)
        return task

    def begin_stop(self) -> None:
        """Stop gracefully, like SIGTERM."""
        self._stopping()
        self.stop.set()

    def fail(self, reason: str, error: BaseException | None = None) -> None:
        """Stop gracefully and exit with a non-zero code. Thread-safe."""
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
                except Exception as error:  # noqa: BLE001 - the daemon continues after any error
                    failed = True
                    log.error("reload failed, the previous stays in use: %s", error)
            if not failed:
                log.info("reloaded")
            if self._ready:
                self._notifier.ready()

    async def cancel_background(self) -> None:
        """Cancel the background tasks, and wait for them."""
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CANCEL_TIMEOUT_S)


def run(main: Main, *, stop_timeout: float = 30.0, environ: Mapping[str, str] = os.environ) -> int:
    """Run `main` on uvloop until it returns.

    A second SIGTERM or SIGINT cancels `main` immediately. A process that does not end after cancellation exits with
    code 70.

    Args:
        main: The daemon.
        stop_timeout: Limit in seconds for `main` to return once the stop has started; then it is cancelled.
        environ: Environment, for systemd's variables.

    Returns:
        The exit code: 0, or 1 after a failure.
    """
    notifier = Notifier(environ, os.getpid())
    shutdown_watchdog = _ShutdownWatchdog(stop_timeout + 2 * _CANCEL_TIMEOUT_S)
    with shutdown_watchdog, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_supervise(main, notifier, shutdown_watchdog, stop_timeout))


async def _supervise(
    main: Main, notifier: Notifier, shutdown_watchdog: _ShutdownWatchdog, stop_timeout: float
) -> int:
    life = Lifecycle(notifier, shutdown_watchdog.start)
    task = asyncio.get_running_loop().create_task(main(life), name="main")
    _handle_signals(life, task)
    watchdog = asyncio.create_task(_watchdog(notifier))
    try:
        stopping = asyncio.create_task(life.stop.wait())
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        notifier.stopping()
        shutdown_watchdog.start()
        await _finish(life, task, stop_timeout)
    finally:
        watchdog.cancel()
        await life.cancel_background()
    return life.exit_code


async def _finish(life: Lifecycle, task: asyncio.Task[None], stop_timeout: float) -> None:
    """Wait for main within its time limit, and set the exit code."""
    _, unfinished = await asyncio.wait({task}, timeout=stop_timeout)
    if unfinished:
        log.error("did not stop within %g seconds, cancelling what is left", stop_timeout)
        life.exit_code = 1
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_TIMEOUT_S)
    _set_exit_code(life, task)


def _set_exit_code(life: Lifecycle, task: asyncio.Task[None]) -> None:
    """Set the exit code from the outcome of main."""
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
    """Notify systemd's watchdog from the event loop, so that a blocked loop is detected."""
    while notifier.watchdog_interval is not None:
        notifier.watchdog()
        await asyncio.sleep(notifier.watchdog_interval)
