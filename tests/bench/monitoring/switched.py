"""A coordinator whose histograms of the commit path can be switched: `python -m tests.bench.monitoring.switched …`.

SIGUSR2 makes them observe nothing from then on, SIGUSR1 as ever; all else is counted in both. The switch is here and
not in what is installed.
"""

import signal
import sys

from coordinator.cli import main
from coordinator.monitoring import raft as raft_metrics

OBSERVE, IGNORE = signal.SIGUSR1, signal.SIGUSR2


class Switched(raft_metrics.Timing):
    """Observes, or takes an observation for nothing: all of them alike."""

    on = True

    def observe(self, seconds: float) -> None:
        """As its base does, or nothing."""
        if Switched.on:
            super().observe(seconds)


def _switch(number: int, _: object) -> None:
    Switched.on = number == OBSERVE


if __name__ == "__main__":
    for number in (OBSERVE, IGNORE):
        signal.signal(number, _switch)
    raft_metrics.Timing = Switched  # type: ignore[misc]
    sys.exit(main(sys.argv[1:]))
