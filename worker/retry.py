"""Retry policy for reports and registrations. Pure: no clock, no randomness, no I/O."""

from dataclasses import dataclass
from enum import Enum, auto

from zkp.client.backoff import Backoff


class ReportOutcome(Enum):
    """Why a report or a registration did not succeed."""

    UNAVAILABLE = auto()
    """There is no leader, or it cannot process the request now."""
    REFUSED = auto()
    """The coordinators refuse this worker: it is quarantined, or its certificate is not accepted."""
    SETTLED = auto()
    """The attempt is no longer leased to this worker, or the report is invalid: retrying is pointless."""


_UNAVAILABLE = Backoff(initial=0.2, ceiling=10.0)
_REFUSED = Backoff(initial=10.0, ceiling=60.0)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Backoff before the next attempt, by outcome.

    `unavailable` starts short, since an election takes well under a second. `refused` is slow, since only an operator
    can resolve it.
    """

    unavailable: Backoff = _UNAVAILABLE
    refused: Backoff = _REFUSED

    def delay(self, outcome: ReportOutcome, failures: int, chance: float) -> float | None:
        """Return the seconds to wait, None to give up.

        Args:
            outcome: Why the last attempt failed.
            failures: Consecutive failures, at least 1.
            chance: Random number in [0, 1), for jitter.
        """
        if outcome is ReportOutcome.SETTLED:
            return None
        backoff = self.refused if outcome is ReportOutcome.REFUSED else self.unavailable
        return backoff.delay(failures, chance)
