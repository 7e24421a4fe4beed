"""What the histograms on the commit path cost: processor time an accepted task, with them and without.

One cluster, whose append and fsync histograms are switched on and off while it runs, slice of work after slice of
work: the same processes with the same state do both. Each round has two slices with them and one without, in every
order in turn; what the two equal ones differ by is what a difference has to exceed to mean something. Processor time
and not wall time: it is what an observation takes, and moves less with whatever else the machine does.
"""

import itertools
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import uvloop

from tests.bench.monitoring.switched import IGNORE, OBSERVE
from tests.bench.raft.clusters import channel
from tests.bench.raft.coordinators import CoordinatorCluster
from tests.bench.raft.load import so_many, submit
from tests.bench.raft.results import Spread
from tests.bench.raft.workshop import LIKE_ETCD, Workshop, running, workshop

WITH, AGAIN, WITHOUT = "with", "with, again", "without"
OUTSTANDING = (1, 64)
_TASKS = {1: 1_000, 64: 6_000}
_WARM_UP = 200
_SIGNALS = {WITH: OBSERVE, AGAIN: OBSERVE, WITHOUT: IGNORE}
_ORDERS = tuple(itertools.permutations(_SIGNALS))
_COMMAND = (sys.executable, "-m", "tests.bench.monitoring.switched")
_CPU_CLOCK = 2  # CPUCLOCK_SCHED of Linux's posix-timers: a process's time, to the nanosecond

Slices = dict[str, float]
"""One round: WITH, AGAIN and WITHOUT → processor seconds a task, of three processes together."""


@dataclass(frozen=True, slots=True)
class Cost:
    """With so many submissions outstanding. seconds: the medians of all rounds.

    observed: how much more a slice with histograms takes, as a share; control: the same of two equal slices.
    """

    outstanding: int
    seconds: Slices
    observed: Spread
    control: Spread


def measure(rounds: int, say: Callable[[str], None]) -> list[Cost]:
    """So many rounds at each number outstanding. Raises BenchError."""
    with workshop(None) as place, running(lambda: _switched(place)) as cluster:
        costs = []
        for outstanding in OUTSTANDING:
            bench = _Bench(place, cluster, outstanding)
            uvloop.run(bench.work(_WARM_UP))
            costs.append(_cost(outstanding, [bench.round(number) for number in range(rounds)]))
            say(sentence(costs[-1]))
        return costs


def _switched(place: Workshop) -> CoordinatorCluster:
    cluster = place.coordinators(LIKE_ETCD)
    for member in cluster.members.values():
        member.command = _COMMAND
    return cluster


@dataclass(frozen=True, slots=True)
class _Bench:
    """A cluster under load."""

    place: Workshop
    cluster: CoordinatorCluster
    outstanding: int

    def round(self, number: int) -> Slices:
        return {name: self._slice(name) for name in _ORDERS[number % len(_ORDERS)]}

    async def work(self, tasks: int) -> float:
        """Have so many tasks accepted; the processor seconds that it took, without making the connection."""
        processes = [member.pid for member in self.cluster.members.values()]
        address = self.cluster.address(self.cluster.leader())
        async with channel(self.place.identities, address) as connection:
            request = submit(connection)
            await request()
            before = sum(map(_processor_seconds, processes))
            await so_many(request, self.outstanding, tasks)
            return sum(map(_processor_seconds, processes)) - before

    def _slice(self, name: str) -> float:
        for member in self.cluster.members.values():
            os.kill(member.pid, _SIGNALS[name])
        tasks = _TASKS[self.outstanding]
        return uvloop.run(self.work(tasks)) / tasks


def _processor_seconds(pid: int) -> float:
    """Of all threads since the start; the clock's number as clock_getcpuclockid(3) makes it."""
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK)


def _cost(outstanding: int, rounds: list[Slices]) -> Cost:
    seconds = {name: Spread.of([one[name] for one in rounds]).median for name in _SIGNALS}
    observed = [one[name] / one[WITHOUT] - 1 for one in rounds for name in (WITH, AGAIN)]
    control = [one[WITH] / one[AGAIN] - 1 for one in rounds]
    return Cost(outstanding, seconds, Spread.of(observed), Spread.of(control))


def sentence(cost: Cost) -> str:
    """One line for whoever waits."""
    found = f"histograms take {share(cost.observed)}, equal slices differ by {share(cost.control)}"
    return f"{cost.outstanding} outstanding: {found}"


def share(spread: Spread) -> str:
    """A median with its quartiles, in percent."""
    return f"{spread.median:+.1%} ({spread.low:+.1%} to {spread.high:+.1%})"
