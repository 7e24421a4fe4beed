"""A history that takes many leases back at once; prints what came of it: `python -m tests.unit.state.replay`."""

from coordinator.state.codec import capture_state
from coordinator.state.commands import (
    Assign,
    Command,
    MarkOffline,
    Quarantine,
    RegisterCircuit,
    RegisterWorker,
    Submit,
)
from coordinator.state.machine import State
from coordinator.state.model import TaskEvent

_TASKS = tuple(f"task-{number}" for number in range(40))
_CIRCUITS = tuple(f"circuit-{number}" for number in range(10))


def _register(incarnation: str, held: tuple[tuple[str, int], ...] = ()) -> Command:
    return RegisterWorker("w", incarnation, len(_TASKS), frozenset(_CIRCUITS), held, "1")


def history() -> list[Command]:
    """All tasks are assigned to one worker and revoked together, for each reason."""
    assignments = [Assign(task_id, "w") for task_id in _TASKS]
    strangers = tuple((f"stranger-{number}", 1) for number in range(10))
    return [
        *(RegisterCircuit(name, "key") for name in _CIRCUITS),
        _register("first"),
        *(Submit(task_id, "client", _CIRCUITS[0], b"secret", (), 5) for task_id in _TASKS),
        *assignments,
        MarkOffline("w", "first"),
        _register("second"),
        *assignments,
        _register("third", strangers),
        *assignments,
        Quarantine("w", "false proof"),
    ]


def replayed() -> str:
    """Every outcome in words, then the snapshot's bytes."""
    state = State()
    lines = []
    for number, command in enumerate(history()):
        outcome = state.apply(command, 1_000 + number, 1)
        lines += [_describe(event) for event in outcome.events]
        lines.append(f"dropped {outcome.dropped}")
    return "\n".join([*lines, b"".join(capture_state(state)).hex()])


def _describe(event: TaskEvent) -> str:
    return f"{event.revision} {event.kind} {event.task and event.task.id} {event.worker and event.worker.id}"


if __name__ == "__main__":
    print(replayed())
