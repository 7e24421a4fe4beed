"""What to do when the coordinators do not take what they are told. Pure: no clock, no randomness, no I/O."""

from dataclasses import dataclass
from enum import Enum, auto

from zkp.client.backoff import Backoff


class ReportOutcome(Enum):
    """Why a report or a registration did not succeed."""

    AWAY = auto()
    """Nobody leads, or whoever does cannot take it now."""
    REFUSED = auto()
    """The coordinator does not listen to this worker: it is quarantined, or its certificate is wrong."""
    SETTLED = auto()
    """The attempt is no longer this worker's, or the report can never be taken: nothing is left to do."""


_AWAY = Backoff(initial=0.2, ceiling=10.0)
_REFUSED = Backoff(initial=10.0, ceiling=60.0)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How long to wait before the next try.

    `away`: short at first, since an election takes well under a second. `refused`: slow, since only an
    operator can change it.
    """

    away: Backoff = _AWAY
    refused: Backoff = _REFUSED

    def delay(self, trouble: ReportOutcome, failures: int, chance: float) -> float | None:
        """Seconds to wait after `failures` (1 or more) in a row; None: stop trying. `chance` in [0, 1)."""
        if trouble is ReportOutcome.SETTLED:
            return None
        backoff = self.refused if trouble is ReportOutcome.REFUSED else self.away
        return backoff.delay(failures, chance)
