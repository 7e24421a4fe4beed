"""Adaptive batching for group commit: how long to wait for more commands before proposing a log entry.

The algorithm:

1. By default a batch is proposed at once, with the commands that arrived while the previous entry was committed.
2. Now and then one batch is a probe: it lingers, and succeeds if it collects at least 4 commands and twice the
   average batch (64 are always enough); probes are at least 20 ms apart, doubled after each failure, up to 640 ms.
3. For 3 s after a successful probe, every batch lingers until it holds the expected number of commands (at most 64).
4. A batch stops lingering early once no command has arrived for 4 ms, or for as long as the last commit took if that
   is longer, and in any case after four times that period; both are at most 50 ms.
5. The expected number is the largest sum of a batch and the commands that arrived during its commit; when a batch
   collects fewer, it falls to their number, by at most a factor of 8, and below 4 the batches no longer linger.

Why: gRPC takes calls in one at a time, and an entry may be committed in the time of two calls. Batches then stay at
one or two commands, and every caller pays for a disk sync and messages that could be shared. Calls that are still on
their way in are not visible from here, hence the probes. A single caller meets one probe in some hundred calls.
"""

import asyncio
from collections.abc import Callable

_MIN_LINGER_S, _MAX_LINGER_S = 0.004, 0.05
"""Bounds of the linger period, which is otherwise the duration of the last commit: on a machine that is short of CPU
time, calls arrive as slowly as entries are committed."""
_LINGER_SLICES = 2
"""Slices of a linger period. A timer may fire late and before arrived calls are taken in, so that a single idle timer
says little."""
_MAX_LINGER_PERIODS = 4
"""Longest wait for a batch, in linger periods; `_MAX_LINGER_S` bounds it as well."""
_LARGE_BATCH = 64
"""Commands beyond which a larger batch gains little."""
_MIN_EXPECTED, _PROBE_GROWTH = 4, 2
"""A successful probe collects at least the first number of commands, and the average batch times the second."""
_MAX_DECREASE = 8
"""Factor by which the expected number of commands falls at most from one batch to the next."""
_PROBE_RESULT_S = 3.0
"""How long the result of a successful probe is used."""
_PROBE_INTERVAL_MIN_S, _PROBE_INTERVAL_MAX_S = 0.02, 0.64
"""Bounds of the time between two probes."""


class AdaptiveBatcher:
    """The delay before each batch. See the description of the algorithm at the head of the module."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        """Create a batcher.

        Args:
            waiting: Returns the number of commands that wait for the next batch.
        """
        self._waiting = waiting
        self._wanted = 0
        self._full: asyncio.Future[None] | None = None
        self._linger_s = _MIN_LINGER_S
        self._expected_batch = 0
        self._lingers_until = 0.0
        self._probe_interval_s = _PROBE_INTERVAL_MIN_S
        self._counting_since: float | None = None
        self._committed_commands = 0
        self._committed_batches = 0

    def command_arrived(self) -> None:
        """Note that one more command waits."""
        if self._full is not None and not self._full.done() and self._waiting() >= self._wanted:
            self._full.set_result(None)

    async def wait(self) -> None:
        """Return when the next batch is to be proposed. At least one command waits for it."""
        now = asyncio.get_running_loop().time()
        if now < self._lingers_until:
            if await self._wait_idle(min(self._expected_batch, _LARGE_BATCH)):
                self._update(self._waiting())
        elif self._counting_since is None:
            self._restart_count(_PROBE_INTERVAL_MIN_S)
        elif self._committed_batches and now - self._counting_since >= self._probe_interval_s:
            await self._probe(self._committed_commands / self._committed_batches)

    def committed(self, commands: int, took_s: float) -> None:
        """Note that a batch of `commands` has its outcomes, and that its entry took `took_s` seconds."""
        self._linger_s = min(max(_MIN_LINGER_S, took_s), _MAX_LINGER_S)
        self._committed_commands += commands
        self._committed_batches += 1
        # The callers are those that have just been answered and those that arrived meanwhile.
        self._expected_batch = max(self._expected_batch, commands + self._waiting())

    def _update(self, arrived: int) -> None:
        # Not at once down to the number that arrived: one delay is not evidence of fewer callers.
        self._expected_batch = max(arrived, self._expected_batch // _MAX_DECREASE)
        if self._expected_batch < _MIN_EXPECTED:
            self._lingers_until = 0.0
            self._restart_count(_PROBE_INTERVAL_MIN_S)

    async def _probe(self, average: float) -> None:
        """Linger once, and compare the size of the batch with the `average`."""
        await self._wait_idle(_LARGE_BATCH)
        self._expected_batch = self._waiting()
        if self._expected_batch >= max(_MIN_EXPECTED, min(_PROBE_GROWTH * average, _LARGE_BATCH)):
            self._lingers_until = asyncio.get_running_loop().time() + _PROBE_RESULT_S
            self._restart_count(_PROBE_INTERVAL_MIN_S)
        else:
            self._restart_count(min(2 * self._probe_interval_s, _PROBE_INTERVAL_MAX_S))

    def _restart_count(self, probe_interval_s: float) -> None:
        self._counting_since = asyncio.get_running_loop().time()
        self._committed_commands = self._committed_batches = 0
        self._probe_interval_s = probe_interval_s

    async def _wait_idle(self, wanted: int) -> bool:
        """Linger until `wanted` commands wait, the limit has passed, or no command arrives for a linger period.

        Returns:
            True in the last case.
        """
        loop = asyncio.get_running_loop()
        self._wanted, self._full = wanted, loop.create_future()
        end = loop.time() + min(_MAX_LINGER_PERIODS * self._linger_s, _MAX_LINGER_S)
        idle_slices = 0
        try:
            while self._waiting() < wanted and idle_slices < _LINGER_SLICES and loop.time() < end:
                before = self._waiting()
                await asyncio.wait([self._full], timeout=self._linger_s / _LINGER_SLICES)
                idle_slices = idle_slices + 1 if self._waiting() == before else 0
        finally:
            self._full = None
        return idle_slices == _LINGER_SLICES
