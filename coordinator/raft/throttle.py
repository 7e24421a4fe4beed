"""How a busy thread leaves the interpreter to the node: by pauses, longer than its work."""

import time
from collections.abc import Callable

_PAUSE = 2.0
"""Seconds of rest for each second of work. Without rest every commit takes several times as long meanwhile: whenever
the node waits for its disk or its peers, the thread takes the interpreter, and keeps it for a whole switch interval.
"""


class GilThrottle:
    """Called by a thread between pieces of its work: pauses for as long as the last piece deserves.

    pause(seconds): waits. busy(): processor seconds of the calling thread.
    """

    def __init__(self, pause: Callable[[float], object], busy: Callable[[], float] = time.thread_time) -> None:
        self._pause = pause
        self._busy = busy
        self._until_now = busy()

    def give_way(self) -> None:
        self._pause((self._busy() - self._until_now) * _PAUSE)
        self._until_now = self._busy()
