"""Simulate for as long as asked, or one seed again.

Example: python -m tests.simulation --minutes 30

Every seed is a cluster of its own; every third has five nodes, the others three. The summary says what was simulated
and which promises were broken. Exit status 1: one was.
"""

import argparse
import logging
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.simulation.cluster import Cluster, Violation
from tests.simulation.schedule import fuzz, play, report, schedule

_FAULTS = 30
_FIRST_SEED = 1_000_000
"""Seeds that the tests do not run."""
_SAY_EVERY_S = 60.0


@dataclass
class Summary:
    """What was simulated."""

    seeds: Counter[int] = field(default_factory=Counter)
    """Nodes of a cluster → how many such clusters."""
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    virtual_s: float = 0.0
    elections: int = 0
    entries: int = 0
    events: int = 0
    acknowledged: int = 0

    def add(self, cluster: Cluster) -> None:
        self.faults.update(cluster.faults)
        self.virtual_s += cluster.time - cluster.began
        self.elections += len(cluster.ledger.leaders)
        self.entries += len(cluster.ledger.entries)
        self.events += len(cluster.ledger.events)
        self.acknowledged += len(cluster.acknowledged)

    def lines(self, seconds: float, first: int) -> list[str]:
        """As Markdown."""
        clusters = ", ".join(f"{count:,} of {size} nodes" for size, count in sorted(self.seeds.items()))
        total = sum(self.seeds.values())
        rows = (
            ("seeds", f"{first} to {first + total - 1}: {total:,} clusters ({clusters})"),
            ("time", f"{seconds / 60:.1f} minutes, {self.virtual_s / 3600:.1f} hours of virtual time"),
            ("fault events", f"{sum(self.faults.values()):,}"),
            ("elections won", f"{self.elections:,}"),
            ("log entries agreed", f"{self.entries:,}"),
            ("state changes agreed", f"{self.events:,}"),
            ("tasks acknowledged", f"{self.acknowledged:,}"),
            ("**promises broken**", f"**{len(self.violations)}**"),
        )
        kinds = [f"| {fault.replace('_', ' ')} | {count:,} |" for fault, count in sorted(self.faults.items())]
        return [
            *("| | |", "|---|---|"),
            *(f"| {name} | {value} |" for name, value in rows),
            "",
            *("| fault | times |", "|---|---|"),
            *kinds,
        ]


def soak(*, seconds: float, faults: int, first: int) -> Summary:
    """Seed after seed until the time is up and so many faults have happened."""
    summary, began = Summary(), time.monotonic()
    seed, said = first, 0.0
    while time.monotonic() - began < seconds or sum(summary.faults.values()) < faults:
        size = 5 if seed % 3 == 0 else 3
        summary.seeds[size] += 1
        try:
            summary.add(fuzz(seed, size=size, faults=_FAULTS))
        except Violation as violation:
            summary.violations.append(str(violation))
            print(f"BROKEN: {violation}", flush=True)
        seed += 1
        passed = time.monotonic() - began
        if passed - said > _SAY_EVERY_S:
            said = passed
            print(
                f"{passed / 60:.0f} min: {seed - first} seeds, {sum(summary.faults.values())} faults, "
                f"{len(summary.violations)} promises broken",
                file=sys.stderr,
                flush=True,
            )
    return summary


def replay(seed: int, size: int, faults: int) -> int:
    """One seed again, with its trace."""
    made: list[Cluster] = []
    try:
        play(seed, size, schedule(seed, faults), made.append)
    except Violation:
        print(report(seed, size, schedule(seed, faults)))
        return 1
    print("\n".join(made[0].trace))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--minutes", type=float, default=0.0, help="simulate for so long")
    parser.add_argument("--events", type=int, default=0, help="and at least until so many faults have happened")
    parser.add_argument("--first", type=int, default=_FIRST_SEED, help="the first seed (%(default)s)")
    parser.add_argument("--seed", type=int, help="run this seed alone and print its trace")
    parser.add_argument("--size", type=int, default=3, help="its number of nodes (%(default)s)")
    parser.add_argument("--faults", type=int, default=_FAULTS, help="its number of faults (%(default)s)")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # thousands of elections are no news
    if options.seed is not None:
        return replay(options.seed, options.size, options.faults)
    began = time.monotonic()
    summary = soak(seconds=60 * options.minutes, faults=options.events, first=options.first)
    print("\n".join(summary.lines(time.monotonic() - began, options.first)))
    return 1 if summary.violations else 0


if __name__ == "__main__":
    sys.exit(main())
