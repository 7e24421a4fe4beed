"""Proposals that wait for an outcome; each callback is called exactly once. No clock, no sockets."""

import logging
from collections.abc import Callable

from coordinator.raft.errors import OutcomeUnknown

log = logging.getLogger("zkp.raft")

Done = Callable[[object], None]
"""Called once with a command's result, or with the RaftError that explains why there is none."""


class PendingProposals:
    """Callbacks by proposal number."""

    def __init__(self) -> None:
        self._callers: dict[int, Done] = {}
        self._last = 0

    def add(self, done: Done) -> int:
        """Register a callback and return its proposal number."""
        self._last += 1
        self._callers[self._last] = done
        return self._last

    def settle(self, number: int, result: object) -> None:
        """Call one callback; do nothing if it was called before."""
        done = self._callers.pop(number, None)
        if done is not None:
            notify(done, result)

    def fail(self) -> None:
        """Fail all pending proposals after leadership was lost; the next leader may still commit them."""
        callers, self._callers = self._callers, {}
        for done in callers.values():
            notify(done, OutcomeUnknown("leadership was lost while the command was on its way"))


def notify(listener: Callable[..., None], *news: object) -> None:
    """Call a listener and log its exceptions: the engine would otherwise apply the entry again."""
    try:
        listener(*news)
    except Exception as error:
        log.error("a listener failed", exc_info=error)
