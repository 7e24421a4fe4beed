"""Who waits for which command, and that each of them is told exactly once. No clock, no sockets."""

import logging
from collections.abc import Callable

from coordinator.raft.errors import OutcomeUnknown

log = logging.getLogger("zkp.raft")

Done = Callable[[object], None]
"""Called once with a command's result, or with the RaftError that tells why there is none."""


class PendingProposals:
    """Callers by the number of their command."""

    def __init__(self) -> None:
        self._callers: dict[int, Done] = {}
        self._last = 0

    def add(self, done: Done) -> int:
        """The number under which to answer."""
        self._last += 1
        self._callers[self._last] = done
        return self._last

    def settle(self, number: int, result: object) -> None:
        """Tell one of them; nothing happens when it was told before."""
        done = self._callers.pop(number, None)
        if done is not None:
            notify(done, result)

    def fail(self) -> None:
        """Leadership is over: what was on its way may or may not be accepted by the next leader."""
        callers, self._callers = self._callers, {}
        for done in callers.values():
            notify(done, OutcomeUnknown("leadership was lost while the command was on its way"))


def notify(listener: Callable[..., None], *news: object) -> None:
    """A listener's own trouble stops here: the engine would take an entry for not applied, and apply it again."""
    try:
        listener(*news)
    except Exception as error:
        log.error("a listener failed", exc_info=error)
