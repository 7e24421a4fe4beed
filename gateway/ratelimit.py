"""Rate limit: one token bucket per caller, in bounded memory. Pure: the clock is a parameter."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_ROUNDING = 1e-9  # of a token: a caller that waited for the returned time must be admitted


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class RateLimit:
    """Token buckets with `rate` requests per second and bursts of `burst`, for the last `max_callers` callers.

    A caller is keyed by its authenticated identity. Beyond `max_callers` the least recently active one is evicted; it
    starts with a full bucket if it returns.
    """

    def __init__(self, rate: float, burst: int, max_callers: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._max_callers = max_callers
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str) -> float:
        """Take one token; return 0 on success, otherwise the seconds until one is available."""
        now = self._clock()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(self._burst, now)
            if len(self._buckets) > self._max_callers:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(caller)
        elapsed = max(0.0, now - bucket.filled_at)
        bucket.tokens = min(self._burst, bucket.tokens + elapsed * self._rate)
        bucket.filled_at = now
        if bucket.tokens < 1 - _ROUNDING:
            return (1 - bucket.tokens) / self._rate
        bucket.tokens -= 1
        return 0.0

    def __len__(self) -> int:
        """Return the number of tracked callers."""
        return len(self._buckets)
