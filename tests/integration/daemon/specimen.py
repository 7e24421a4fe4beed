"""A daemon in one of several tempers, run by the lifecycle tests as a process of its own."""

import asyncio
import logging
import sys
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

from zkp.daemon import lifecycle, logs
from zkp.daemon.errors import ListenError
from zkp.daemon.lifecycle import Lifecycle, run

log = logging.getLogger("zkp.specimen")


async def serve(life: Lifecycle) -> None:
    """Does everything right."""
    life.on_reload(lambda: log.info("certificates read again"))
    life.ready("serving")
    await life.stop.wait()
    await asyncio.sleep(0.01)
    log.info("stopped in order")


async def stubborn_reload(life: Lifecycle) -> None:
    """Its reload fails, and it goes on."""

    def broken() -> None:
        raise ValueError("key.pem is missing")

    life.on_reload(broken)
    await serve(life)


async def background_fails(life: Lifecycle) -> None:
    """A task beside it ends with an error."""

    async def pump() -> None:
        raise RuntimeError("pump is dry")

    life.background(pump(), name="pump")
    await serve(life)


async def thread_fails(life: Lifecycle) -> None:
    """A thread reports that it cannot go on."""
    threading.Thread(target=life.fail, args=("disk failed", ListenError("no space left"))).start()
    await serve(life)


async def cannot_start(_: Lifecycle) -> None:
    """What it needs is not there."""
    raise ListenError("cannot listen on 127.0.0.1:1: taken; give another")


async def crashes(_: Lifecycle) -> None:
    """A mistake in the program."""
    raise KeyError("surprise")


async def ends_by_itself(life: Lifecycle) -> None:
    """Has no more to do."""
    life.background(asyncio.sleep(3600), name="endless")
    life.ready()


async def dawdles(life: Lifecycle) -> None:
    """Does not stop when told."""
    life.ready()
    await asyncio.sleep(3600)


async def blocks(life: Lifecycle) -> None:
    """Blocks the event loop when told to stop."""
    life.ready()
    await life.stop.wait()
    time.sleep(3600)  # noqa: ASYNC251 - the point of it


TEMPERS: dict[str, Callable[[Lifecycle], Coroutine[Any, Any, None]]] = {
    temper.__name__: temper
    for temper in (
        serve,
        stubborn_reload,
        background_fails,
        thread_fails,
        cannot_start,
        crashes,
        ends_by_itself,
        dawdles,
        blocks,
    )
}

if __name__ == "__main__":
    logs.configure("info")
    lifecycle._CANCEL_TIMEOUT_S = 0.1
    sys.exit(run(TEMPERS[sys.argv[1]], stop_timeout=float(sys.argv[2])))
