"""How often one caller may ask: a token bucket for each, in bounded memory. Pure: the clock is handed in."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_ROUNDING = 1e-9  # of a token: whoever waited as long as it was told is let in


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


class RateLimit:
    """`rate` requests a second on average and `burst` at once, for each of the last `callers` callers.

    A caller is named by its authenticated identity. When there are more, the one that was silent the
    longest is forgotten, and begins with a full bucket should it come back.
    """

    def __init__(self, rate: float, burst: int, callers: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._callers = callers
        self._clock = clock
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def take(self, caller: str) -> float:
        """Take one token: 0 when there was one, otherwise the seconds until there will be."""
        now = self._clock()
        bucket = self._buckets.get(caller)
        if bucket is None:
            bucket = self._buckets[caller] = _Bucket(self._burst, now)
            if len(self._buckets) > self._callers:
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
        """How many callers are remembered."""
        return len(self._buckets)
