"""Python's collector of cycles, kept from stopping a node that leads.

A full collection looks at every object: with some hundred thousand tasks in memory that takes longer than an election
timeout, and the leader would be deposed for it. The state holds no cycles and is freed without the collector, which
is left with what is young; a follower, whose pause nobody notices, looks at everything now and then.
"""

import asyncio
import gc
from collections.abc import Callable

_YOUNG, _MIDDLE, _NEVER = 5_000, 5, 2**31 - 1
_PERIOD_S = 3600.0


def spare_the_leader() -> None:
    """Full collections happen only when they are asked for; what has been imported is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _NEVER)


async def collect_while_following(leads: Callable[[], bool]) -> None:
    """For ever: a full collection every hour, unless this node leads then."""
    while True:
        await asyncio.sleep(_PERIOD_S)
        if not leads():
            gc.collect()
