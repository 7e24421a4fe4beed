"""The tasks of the leader, and their cancellation when its leadership ends.

Soft state begins and ends in the same step as leadership, so that no event is missed or counted twice.
The tasks run beside the event handlers and are cancelled on deposition; those of a new term start only when the
old ones have ended.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from coordinator.raft import NotLeader, OutcomeUnknown

log = logging.getLogger("zkp.coordinator")

LeaderTask = Callable[[int], Awaitable[None]]
"""Called with the term; runs until it is done or cancelled."""

_RETRY_DELAY_S = 0.2
_FAILURE_DELAY_S = 1.0


class Leadership:
    """The life cycle of the leader's soft state and tasks.

    `begin` and `end` start and discard the soft state, synchronously and without raising. `prepare` proposes what
    must be committed before this leader accepts work. `tasks` run by name from then on.
    """

    def __init__(
        self,
        *,
        begin: Callable[[], None],
        end: Callable[[], None],
        prepare: LeaderTask,
        tasks: Mapping[str, LeaderTask],
    ) -> None:
        self._begin = begin
        self._end = end
        self._prepare = prepare
        self._tasks = dict(tasks)
        self._running: asyncio.Task[None] | None = None
        self._unfinished: set[asyncio.Task[None]] = set()
        """The running task, and cancelled ones that have not ended yet."""
        self.ready = asyncio.Event()
        """Set while this node leads and has prepared."""

    def changed(self, term: int | None) -> None:
        """Handle a change: this node leads in `term` and is current, or (None) no longer leads.

        Call it on the event loop.
        """
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
        """Cancel all tasks and wait for their end."""
        self.changed(None)
        if self._unfinished:
            await asyncio.wait(self._unfinished)

    async def _lead(self, term: int, before: frozenset[asyncio.Task[None]]) -> None:
        if before:
            await asyncio.wait(before)
        await _run_until_done("preparation", self._prepare, term)
        self.ready.set()
        log.info("leader ready", extra={"term": term})
        async with asyncio.TaskGroup() as group:
            for name, task in self._tasks.items():
                group.create_task(_run_until_done(name, task, term), name=name)


async def _run_until_done(name: str, task: LeaderTask, term: int) -> None:
    """Run one task to its end. Log a failure and restart it, so that it does not affect the other tasks."""
    while True:
        try:
            await task(term)
        except (NotLeader, OutcomeUnknown) as error:
            # Deposition cancels this task; without it this node still leads.
            log.debug("%s starts again: %s", name, error, extra={"term": term})
            await asyncio.sleep(_RETRY_DELAY_S)
        except Exception:
            log.exception("%s failed and starts again", name, extra={"term": term})
            await asyncio.sleep(_FAILURE_DELAY_S)
        else:
            return
