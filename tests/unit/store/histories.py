"""Histories for tests: commands that drive the real state machine, by hand or at random."""

import random
from collections.abc import Iterator, Sequence

from coordinator.state.commands import (
    Assign,
    Cancel,
    Command,
    Complete,
    Fail,
    LoseLease,
    MarkOffline,
    Projected,
    Quarantine,
    RegisterCircuit,
    RegisterWorker,
    Release,
    RevokeCertificate,
    Start,
    Submit,
)
from coordinator.state.machine import State
from coordinator.state.model import TaskEvent

EPOCH_MS = 1_790_000_000_000
CIRCUITS = ("addition", "range_proof")
WORKERS = ("worker-1", "worker-2", "worker-3")


def submit(task_id: str, circuit: str = "addition", max_retries: int = 1) -> Submit:
    """A submission whose private inputs can be told from everything else."""
    return Submit(task_id, "client-1", circuit, b"private " + task_id.encode(), ("1", "22", "333"), max_retries)


def register(worker_id: str, incarnation: str = "first", held: tuple[tuple[str, int], ...] = ()) -> RegisterWorker:
    """A worker that can prove every circuit, four at a time; its certificate has a number of its own."""
    serial = f"{sum(worker_id.encode() + incarnation.encode()):x}"
    return RegisterWorker(worker_id, incarnation, 4, frozenset(CIRCUITS), held, "0.1.0", serial)


def revoke(serial: str) -> RevokeCertificate:
    """A certificate whose reason PostgreSQL could not hold as it is."""
    return RevokeCertificate(serial, "worker/worker-1", "stolen \0 \ud800", EPOCH_MS + 10)


SETTING: tuple[Command, ...] = (
    *(RegisterCircuit(name, f"key of {name}") for name in CIRCUITS),
    *(register(worker) for worker in WORKERS),
)
"""What every history begins with."""


def one_completed(task_id: str = "task-1") -> tuple[Command, ...]:
    """A task from its submission to its proof, without the setting."""
    return (
        submit(task_id),
        Assign(task_id, "worker-1"),
        Start(task_id, "worker-1", 1),
        Complete(task_id, "worker-1", 1, b"proof of " + task_id.encode()),
    )


def play(state: State, commands: Sequence[Command], term: int = 1) -> list[TaskEvent]:
    """Apply each command a millisecond after the one before; the events that came of them."""
    events: list[TaskEvent] = []
    for command in commands:
        outcome = state.apply(command, max(state.clock_ms, EPOCH_MS) + 1, term)
        events.extend(outcome.events)
    return events


def random_commands(state: State, chance: random.Random, count: int) -> Iterator[Command]:
    """Commands that mostly make sense for the state as it is when each is asked for."""
    for number in range(count):
        task = chance.choice(list(state.tasks.values())) if state.tasks else None
        worker = chance.choice(WORKERS)
        if task is None or chance.random() < 0.3:
            yield submit(f"task-{number}", chance.choice(CIRCUITS), chance.randrange(3))
            continue
        attempt = max(task.attempt, 1) if chance.random() < 0.9 else task.attempt + 1
        holder = task.worker_id or worker
        released = chance.random() < 0.3
        known = state.workers.get(worker)
        choices: list[Command] = [
            Assign(task.id, worker),
            Assign(task.id, worker),
            Start(task.id, holder, attempt),
            Complete(task.id, holder, attempt, b"proof %d" % number),
            Fail(task.id, holder, attempt, "prover_failed", "it \0 failed \ud800", chance.random() < 0.7, released),
            LoseLease(task.id, attempt, "timeout", "took too long"),
            Cancel(task.id),
            register(worker, f"start {number}"),
            MarkOffline(worker, known.incarnation if known else ""),
            Quarantine(worker, "sent a false proof"),
            Release(worker),
            revoke(known.certificate_serial if known else "b0b"),
            Projected(state.projected, max(0, state.projected - 20)),
        ]
        yield chance.choice(choices)
