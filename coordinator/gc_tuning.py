"""Python's own habits, kept from stopping a node that leads: the collector of cycles, and the turns of threads.

A full collection looks at every object: with some hundred thousand tasks in memory that takes longer than an election
timeout, and the leader would be deposed for it. The state holds no cycles and is freed without the collector, which
is left with what is young; a follower, whose pause nobody notices, looks at everything now and then.

While a thread encodes a snapshot, the node's loop gets the interpreter back, after every system call that lets go of
it, only when Python's switch interval is over: 5 ms are too long for that. (The thread also pauses by itself.)
"""

import asyncio
import gc
import random
import sys
from collections.abc import Callable

_YOUNG, _MIDDLE, _NEVER = 5_000, 5, 2**31 - 1
_PERIOD_S = 3600.0
_SWITCH_S = 0.0005
_DICE = random.SystemRandom()


def tune_gc() -> None:
    """Full collections only when they are asked for, never of what has been imported; threads take short turns."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)
    sys.setswitchinterval(_SWITCH_S)


async def collect_garbage_on_followers(leads: Callable[[], bool]) -> None:
    """For ever: a full collection every hour or so, unless this node leads then.

    At a time of its own: nodes that were started together must not pause together, which would be a lost quorum.
    """
    while True:
        await asyncio.sleep(_PERIOD_S * _DICE.uniform(0.5, 1.5))
        if not leads():
            gc.collect()
