"""When the next group of commands sets out: at once, or a few milliseconds later when that makes it much larger.

gRPC takes calls in one at a time, and an entry may be agreed on in the time of two: then groups stay at one or two,
and everybody pays for the sync and the messages that could be shared. Who is still on the way in cannot be seen from
here, so it is tried out: now and then one group waits, and if it grows far beyond the usual, so do the next ones. Who
asks alone meets one such trial in some hundred calls.
"""

import asyncio
from collections.abc import Callable

_PATIENCE_S, _MOST_PATIENCE_S = 0.004, 0.05
"""A group waits until nobody has come for so long, or for as long as the last entry took where that is more (on a
machine that is short of time, calls come in as slowly as entries are agreed on), up to the second."""
_QUIET = 2
"""In so many parts: a timer may fire late and before anything is taken in, so that one alone says little."""
_LONGEST = 4
"""No command waits longer for others than so many times that, or than the second."""
_ENOUGH = 64
"""A group of so many has little to gain from more."""
_CROWD, _FAR_LARGER = 4, 2
"""So many must come during a trial, and so many times what a group usually has; fewer are no crowd."""
_FORGETS = 8
"""A crowd that did not come is taken for so many times fewer the next time."""
_LEARNED_S = 3.0
"""How long the outcome of a good trial is believed."""
_TRIAL_MIN_S, _TRIAL_MAX_S = 0.02, 0.64
"""Between two trials: doubled after each that brought nothing."""


class AdaptiveBatcher:
    """The pause before a group. `waiting`: how many commands there are for it."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._waiting = waiting
        self._wanted = 0
        self._enough: asyncio.Future[None] | None = None
        self._patience = _PATIENCE_S
        self._crowd = 0
        self._crowded_until = 0.0
        self._trial_every = _TRIAL_MIN_S
        self._counted_since: float | None = None
        self._settled = 0
        self._groups = 0

    def arrived(self) -> None:
        """One more command is waiting."""
        if self._enough is not None and not self._enough.done() and self._waiting() >= self._wanted:
            self._enough.set_result(None)

    async def gather(self) -> None:
        """Return when the next group is to set out. Somebody is waiting for it."""
        now = asyncio.get_running_loop().time()
        if now < self._crowded_until:
            if await self._fell_quiet(min(self._crowd, _ENOUGH)):
                self._learn(self._waiting())
        elif self._counted_since is None:
            self._begin_count(_TRIAL_MIN_S)
        elif self._groups and now - self._counted_since >= self._trial_every:
            await self._try(self._settled / self._groups)

    def settled(self, commands: int, took_s: float) -> None:
        """A group of so many has its outcomes; took_s: seconds that its entry took."""
        self._patience = min(max(_PATIENCE_S, took_s), _MOST_PATIENCE_S)
        self._settled += commands
        self._groups += 1
        # Those who ask are among those who have just been answered and those who have come meanwhile.
        self._crowd = max(self._crowd, commands + self._waiting())

    def _learn(self, came: int) -> None:
        # Not at once down to those who came: one hiccup is no reason to forget a crowd.
        self._crowd = max(came, self._crowd // _FORGETS)
        if self._crowd < _CROWD:
            self._crowded_until = 0.0
            self._begin_count(_TRIAL_MIN_S)

    async def _try(self, usual: float) -> None:
        """Wait once, and see whether the group grows far beyond the `usual` number of commands."""
        await self._fell_quiet(_ENOUGH)
        self._crowd = self._waiting()
        if self._crowd >= max(_CROWD, min(_FAR_LARGER * usual, _ENOUGH)):
            self._crowded_until = asyncio.get_running_loop().time() + _LEARNED_S
            self._begin_count(_TRIAL_MIN_S)
        else:
            self._begin_count(min(2 * self._trial_every, _TRIAL_MAX_S))

    def _begin_count(self, trial_every: float) -> None:
        self._counted_since, self._settled, self._groups = asyncio.get_running_loop().time(), 0, 0
        self._trial_every = trial_every

    async def _fell_quiet(self, wanted: int) -> bool:
        """Wait until `wanted` are waiting, or it has taken too long, or (True) nobody has come for a while."""
        loop = asyncio.get_running_loop()
        self._wanted, self._enough = wanted, loop.create_future()
        end = loop.time() + min(_LONGEST * self._patience, _MOST_PATIENCE_S)
        quiet = 0
        try:
            while self._waiting() < wanted and quiet < _QUIET and loop.time() < end:
                before = self._waiting()
                await asyncio.wait([self._enough], timeout=self._patience / _QUIET)
                quiet = quiet + 1 if self._waiting() == before else 0
        finally:
            self._enough = None
        return quiet == _QUIET
