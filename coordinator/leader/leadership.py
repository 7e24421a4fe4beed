"""What a node does while it leads, and the undoing of it.

Soft state begins and ends in the very step in which leadership does, so that no event is missed or counted twice.
The duties run beside the event handlers and are cancelled on deposition; those of a new term start only when the
old ones have ended.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from coordinator.raft import NotLeader, OutcomeUnknown

log = logging.getLogger("zkp.coordinator")

LeaderTask = Callable[[int], Awaitable[None]]
"""Runs for one term, which it is told, until it is done or cancelled."""

_RETRY_S = 0.2
_AFTER_FAILURE_S = 1.0


class Leadership:
    """begin, end: soft state, at once and without raising. prepare: what must be agreed before this leader takes
    work. duties: by name, what runs from then on."""

    def __init__(
        self,
        *,
        begin: Callable[[], None],
        end: Callable[[], None],
        prepare: LeaderTask,
        duties: Mapping[str, LeaderTask],
    ) -> None:
        self._begin = begin
        self._end = end
        self._prepare = prepare
        self._duties = dict(duties)
        self._running: asyncio.Task[None] | None = None
        self._unfinished: set[asyncio.Task[None]] = set()
        """What runs, and what was cancelled and is still on its way to its end."""
        self.ready = asyncio.Event()
        """Set while this node leads and has prepared."""

    def changed(self, term: int | None) -> None:
        """This node leads in `term` and is current, or (None) leads no more. Call it on the event loop."""
        self.ready.clear()
        if self._running is not None:
            self._running.cancel()
            self._running = None
            self._end()
        if term is not None:
            self._begin()
            self._running = asyncio.create_task(
                self._lead(term, frozenset(self._unfinished)), name=f"leader of term {term}"
            )
            self._unfinished.add(self._running)
            self._running.add_done_callback(self._unfinished.discard)

    async def stop(self) -> None:
        """End whatever runs and wait for it."""
        self.changed(None)
        if self._unfinished:
            await asyncio.wait(self._unfinished)

    async def _lead(self, term: int, before: frozenset[asyncio.Task[None]]) -> None:
        if before:
            await asyncio.wait(before)
        await _persist("preparation", self._prepare, term)
        self.ready.set()
        log.info("leader ready", extra={"term": term})
        async with asyncio.TaskGroup() as group:
            for name, duty in self._duties.items():
                group.create_task(_persist(name, duty, term), name=name)


async def _persist(name: str, duty: LeaderTask, term: int) -> None:
    """Run one duty to its end. A failure is logged and it starts again: the others must not suffer from it."""
    while True:
        try:
            await duty(term)
        except (NotLeader, OutcomeUnknown) as error:
            # Deposition cancels this task; if it does not come, the duty is still ours.
            log.debug("%s starts again: %s", name, error, extra={"term": term})
            await asyncio.sleep(_RETRY_S)
        except Exception:
            log.exception("%s failed and starts again", name, extra={"term": term})
            await asyncio.sleep(_AFTER_FAILURE_S)
        else:
            return
