"""Throttle for the snapshot thread, so that it does not starve the event loop of the GIL."""

import time
from collections.abc import Callable

_PAUSE = 2.0
"""Pause per second of work (a ratio). Without it every commit takes several times as long meanwhile: whenever
the node waits for its disk or its peers, the thread takes the interpreter, and keeps it for a whole switch interval.
"""


class GilThrottle:
    """Pauses a thread between pieces of its work, in proportion to the CPU time of the last piece.

    pause(seconds): waits. busy(): processor seconds of the calling thread.
    """

    def __init__(self, pause: Callable[[float], object], busy: Callable[[], float] = time.thread_time) -> None:
        self._pause = pause
        self._busy = busy
        self._until_now = busy()

    def pause(self) -> None:
        """Pause for twice the CPU time used since the last call."""
        self._pause((self._busy() - self._until_now) * _PAUSE)
        self._until_now = self._busy()
