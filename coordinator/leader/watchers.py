"""Callers that watch a task: each receives the latest version, never a backlog of old ones."""

import asyncio
from collections.abc import AsyncGenerator, Sequence

from coordinator.errors import Overloaded
from coordinator.state.model import Task, TaskEvent

_RETRY_AFTER_S = 5.0


class _Watcher:
    """One caller. A slow caller skips versions, so that it holds one task at most."""

    __slots__ = ("changed", "ended", "latest")

    def __init__(self, current: Task) -> None:
        self.latest: Task | None = current
        self.ended: Exception | None = None
        self.changed = asyncio.Event()
        self.changed.set()


class TaskWatchers:
    """Fan-out of applied events to at most `bound` concurrent callers."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._count = 0
        self._watchers: dict[str, set[_Watcher]] = {}

    @property
    def count(self) -> int:
        """The number of callers that watch now."""
        return self._count

    def observe(self, events: Sequence[TaskEvent]) -> None:
        """Pass on the new version of each watched task."""
        if not self._watchers:
            return
        for event in events:
            if event.task is not None:
                for watcher in self._watchers.get(event.task.id, ()):
                    watcher.latest = event.task
                    watcher.changed.set()

    def end_all(self, reason: Exception) -> None:
        """Make every watch raise `reason`, because this node no longer leads or is stopping."""
        for watchers in self._watchers.values():
            for watcher in watchers:
                watcher.ended = reason
                watcher.changed.set()

    async def follow(self, current: Task) -> AsyncGenerator[Task, None]:
        """`current`, then each newer version, up to and including a final one.

        Starts to listen when first asked for a value, so ask in the same step in which `current` was read.
        Raises Overloaded at the bound, and what `end_all` was given.
        """
        if self._count >= self._bound:
            raise Overloaded(f"{self._bound} callers watch tasks, which is the limit; poll instead", _RETRY_AFTER_S)
        watcher = _Watcher(current)
        self._watchers.setdefault(current.id, set()).add(watcher)
        self._count += 1
        try:
            while True:
                await watcher.changed.wait()
                watcher.changed.clear()
                task, watcher.latest = watcher.latest, None
                if task is not None:
                    yield task
                    if task.state.final:
                        return
                if watcher.ended is not None:
                    raise watcher.ended
        finally:
            self._count -= 1
            watchers = self._watchers[current.id]
            watchers.discard(watcher)
            if not watchers:
                del self._watchers[current.id]
