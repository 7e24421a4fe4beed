"""Python's collector of cycles, kept from stopping a node that leads.

A full collection looks at every object: with some hundred thousand tasks in memory that takes longer than an election
timeout, and the leader would be deposed for it. The state holds no cycles and is freed without the collector, which
is left with what is young; a follower, whose pause nobody notices, looks at everything now and then.
"""

import asyncio
import gc
import random
from collections.abc import Callable

_YOUNG, _MIDDLE, _NEVER = 5_000, 5, 2**31 - 1
_PERIOD_S = 3600.0
_DICE = random.SystemRandom()


def spare_the_leader() -> None:
    """Full collections happen only when they are asked for; what has been imported is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)


async def collect_while_following(leads: Callable[[], bool]) -> None:
    """For ever: a full collection every hour or so, unless this node leads then.

    At a time of its own: nodes that were started together must not pause together, which would be a lost quorum.
    """
    while True:
        await asyncio.sleep(_PERIOD_S * _DICE.uniform(0.5, 1.5))
        if not leads():
            gc.collect()
