"""A run that one number decides: its faults in order, played in a cluster, and made few when a promise was broken."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest.mock import patch

from coordinator.raft import sending, snapshots
from tests.simulation.clients import Clients
from tests.simulation.cluster import Cluster, Violation
from tests.simulation.fault_context import FaultContext
from tests.simulation.faults import FAULTS
from tests.simulation.record import SimRecord
from tests.simulation.workers import Workforce

_PAUSES = (0.0, 0.01, 0.05, 0.3, 1.0)
_SHOWN = 60
"""Lines of a trace that are shown."""


@dataclass(frozen=True, slots=True)
class Step:
    """fault: its name; salt: what its choices are drawn from; pause: virtual seconds until the next."""

    fault: str
    salt: int
    pause: float

    def __str__(self) -> str:
        return f"{self.fault}(salt={self.salt}), then {self.pause:g} s"


Schedule = tuple[Step, ...]


def schedule(seed: int, faults: int, kinds: Sequence[str] = tuple(sorted(FAULTS))) -> Schedule:
    """`faults` random steps of these kinds; the same for the same seed."""
    rng = random.Random(f"schedule {seed}")
    return tuple(Step(rng.choice(kinds), rng.getrandbits(32), rng.choice(_PAUSES)) for _ in range(faults))


def play(seed: int, size: int, steps: Schedule, cluster_made: Callable[[Cluster], None] = lambda _: None) -> Cluster:
    """A cluster of `size` nodes, at work, in which these things go wrong, some at once. Raises Violation."""
    with _small_parts():
        return _play(seed, size, steps, cluster_made)


@contextmanager
def _small_parts() -> Iterator[None]:
    """A few entries a message, many parts a snapshot, little on the way: what else only large clusters meet."""
    with (
        patch.object(sending, "_BATCH_BYTES", 400),
        patch.object(sending, "_BACKLOG_BYTES", 16 << 10),
        patch.object(snapshots, "CHUNK_BYTES", 4 << 10),
    ):
        yield


def _play(seed: int, size: int, steps: Schedule, cluster_made: Callable[[Cluster], None]) -> Cluster:
    cluster = Cluster(seed, size)
    cluster_made(cluster)
    record = SimRecord(cluster)
    workforce = Workforce(cluster, random.Random(f"workers {seed}"))
    clients = Clients(cluster, random.Random(f"clients {seed}"), record)
    cluster.followers = [record, workforce, clients]
    cluster.run_until(lambda: cluster.leader() is not None, 10.0)
    for step in steps:
        cluster.faults[step.fault] += 1
        cluster.note(f"FAULT {step}")
        FAULTS[step.fault](FaultContext(cluster, record, workforce, random.Random(step.salt)))
        cluster.run(step.pause)
    record.away = False
    for worker in workforce.workers.values():
        worker.lies = False
        workforce.restart(worker)
    cluster.check_end()
    return cluster


def broken_by(seed: int, size: int, steps: Schedule) -> tuple[str, list[str]] | None:
    """Which promise these steps break, with the trace; None when they break none."""
    made: list[Cluster] = []
    try:
        play(seed, size, steps, made.append)
    except Violation as violation:
        return str(violation), list(made[0].trace)
    return None


def shrunk(seed: int, size: int, steps: Schedule, attempts: int = 60) -> Schedule:
    """As few of the steps as still break a promise, as far as so many attempts go: halves first, then single ones."""
    width = len(steps) // 2
    while width:
        start = 0
        while start < len(steps) and attempts:
            fewer = steps[:start] + steps[start + width :]
            attempts -= 1
            if broken_by(seed, size, fewer) is not None:
                steps = fewer
            else:
                start += width
        width //= 2
    return steps


def report(seed: int, size: int, steps: Schedule) -> str:
    """What was broken, the steps that do it, and the last things that happened: for somebody to read."""
    found = broken_by(seed, size, steps)
    what, trace = found if found is not None else ("nothing", [])
    return "\n".join(
        (
            what,
            f"seed {seed}, {size} nodes; again: python -m tests.simulation --seed {seed} --size {size}",
            f"{len(steps)} faults are enough:",
            *(f"  {step}" for step in steps),
            f"the last {_SHOWN} things that happened (virtual seconds):",
            *_readable(trace),
        )
    )


def _readable(trace: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in trace[-_SHOWN:]]


def fuzz(seed: int, *, size: int = 3, faults: int) -> Cluster:
    """Play a random schedule. Raises Violation with a report of the shrunk one."""
    steps = schedule(seed, faults)
    try:
        return play(seed, size, steps)
    except Violation as violation:
        fewer = shrunk(seed, size, steps)
        raise Violation(report(seed, size, fewer)) from violation
