"""CPython tuning: keep garbage collection and the GIL switch interval from stalling the leader.

A full collection traverses every object: with some 100,000 tasks in memory it takes longer than an election timeout,
and the leader would be deposed. The state holds no reference cycles and is freed by reference counting, so that the
collector only has to examine young objects. Followers, whose pauses have no effect, run a full collection at times.

While a thread encodes a snapshot, the event loop loses the GIL in every system call that releases it, and gets it
back only after Python's switch interval: the default of 5 ms is too long. (The thread also pauses by itself.)
"""

import asyncio
import gc
import random
import sys
from collections.abc import Callable

_THRESHOLD_0, _THRESHOLD_1, _THRESHOLD_2 = 5_000, 5, 2**31 - 1
_COLLECTION_INTERVAL_S = 3600.0
_SWITCH_INTERVAL_S = 0.0005
_RANDOM = random.SystemRandom()


def tune_gc() -> None:
    """Disable automatic full collections, exempt the objects that exist now, and shorten the GIL switch interval."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_THRESHOLD_0, _THRESHOLD_1, _THRESHOLD_2)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)


async def collect_garbage_on_followers(is_leader: Callable[[], bool]) -> None:
    """Run a full collection about every hour unless this node leads then, until cancelled.

    The interval is random: nodes that were started together must not pause together, which would lose the quorum.
    """
    while True:
        await asyncio.sleep(_COLLECTION_INTERVAL_S * _RANDOM.uniform(0.5, 1.5))
        if not is_leader():
            gc.collect()
