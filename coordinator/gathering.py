"""When the next group of commands sets out: at once, or a few milliseconds later when that makes it much larger.

gRPC takes calls in one at a time, and an entry may be agreed on in the time of two: then groups stay at one or two,
and everybody pays for the sync and the messages that could be shared. Who is still on the way in cannot be seen from
here, so it is tried out: now and then one group waits, and if it grows far beyond the usual, so do the next ones. Who
asks alone meets one such trial in some hundred calls.
"""

import asyncio
from collections.abc import Callable

_PATIENCE_S, _MOST_PATIENCE_S = 0.004, 0.05
"""How long one waits for somebody to come: so long, or as long as the last entry took where that is more (on a
machine that is short of time, calls come in as slowly as entries are agreed on), up to the second. Who comes brings
others: then one waits on, until nobody has come for half as long."""
_LONGEST = 4
"""No command waits longer for others than so many times that, or than the second."""
_ENOUGH = 64
"""A group of so many has little to gain from more."""
_CROWD, _FAR_LARGER = 4, 2
"""So many must come during a trial, and so many times what a group usually has; fewer are no crowd."""
_LEARNED_S = 1.0
"""How long the outcome of a good trial is believed."""
_TRIAL_MIN_S, _TRIAL_MAX_S = 0.02, 0.64
"""Between two trials: doubled after each that brought nothing."""


class Gathering:
    """The pause between two groups. `waiting`: how many commands there are for the next."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._waiting = waiting
        self._wanted = 0
        self._patience = _PATIENCE_S
        self._enough: asyncio.Future[None] | None = None
        self._until = 0.0
        self._crowd = 0
        self._crowded_until = 0.0
        self._trial_every = _TRIAL_MIN_S
        self._since: float | None = None
        self._settled = 0
        self._groups = 0

    def arrived(self) -> None:
        """One more command is waiting."""
        if self._enough is None:
            return
        if self._waiting() >= self._wanted:
            _settle(self._enough)
        self._until = max(self._until, asyncio.get_running_loop().time() + self._patience / 2)

    async def pause(self, settled: int, took_s: float) -> None:
        """Return when the next group, if anybody waits for one, is to set out.

        settled: commands of the last one; took_s: seconds that its entry took.
        """
        now = asyncio.get_running_loop().time()
        self._patience = min(max(_PATIENCE_S, took_s), _MOST_PATIENCE_S)
        if now < self._crowded_until:
            # Those who ask are among those who wait and those who have just been answered.
            await self._wait(min(max(settled + self._waiting(), self._crowd), _ENOUGH))
            self._crowd = self._waiting()
            if self._crowd < _CROWD:
                self._crowded_until = 0.0
                self._begin_count(_TRIAL_MIN_S)
            return
        if self._since is None:
            self._begin_count(_TRIAL_MIN_S)
            return
        self._settled += settled
        self._groups += 1
        if now - self._since >= self._trial_every:
            await self._try(self._settled / self._groups)

    async def _try(self, usual: float) -> None:
        """Wait once, and see whether the group grows far beyond the `usual` number of commands."""
        await self._wait(_ENOUGH)
        if self._waiting() >= max(_CROWD, min(_FAR_LARGER * usual, _ENOUGH)):
            self._crowd = self._waiting()
            self._crowded_until = asyncio.get_running_loop().time() + _LEARNED_S
            self._begin_count(_TRIAL_MIN_S)
        else:
            self._begin_count(min(2 * self._trial_every, _TRIAL_MAX_S))

    def _begin_count(self, trial_every: float) -> None:
        self._since, self._settled, self._groups = asyncio.get_running_loop().time(), 0, 0
        self._trial_every = trial_every

    async def _wait(self, wanted: int) -> None:
        """Until `wanted` are waiting, or nobody has come for a while, or it has taken too long."""
        if self._waiting() >= wanted:
            return
        loop = asyncio.get_running_loop()
        self._wanted, self._enough = wanted, loop.create_future()
        self._until = loop.time() + self._patience
        end = loop.time() + min(_LONGEST * self._patience, _MOST_PATIENCE_S)
        try:
            while not self._enough.done() and (left := min(self._until, end) - loop.time()) > 0:
                await asyncio.wait([self._enough], timeout=left)
        finally:
            self._enough = None


def _settle(enough: "asyncio.Future[None]") -> None:
    if not enough.done():
        enough.set_result(None)
