"""Rate-limited log for warnings that unauthenticated peers can trigger."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

_LINES_PER_WINDOW = 20
_WINDOW_S = 10.0


@dataclass(slots=True)
class BoundedLog:
    """At most 20 lines per 10 s, then a count. clock: monotonic, in seconds."""

    log: logging.Logger
    clock: Callable[[], float]
    _window: float = float("-inf")
    _written: int = 0
    _left_out: int = 0

    def warning(self, message: str, peer: str | None = None) -> None:
        """Log one line, unless the limit is reached."""
        now = self.clock()
        if now - self._window >= _WINDOW_S:
            if self._left_out:
                self.log.warning("%d more refusals were not logged", self._left_out)
            self._window, self._written, self._left_out = now, 0, 0
        if self._written >= _LINES_PER_WINDOW:
            self._left_out += 1
            return
        self._written += 1
        self.log.warning("%s", message, extra={} if peer is None else {"peer": peer})
