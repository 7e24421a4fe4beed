"""Every way in which a task can go on, and every way in which it cannot."""

import pytest

from coordinator.state.codec import capture_state
from coordinator.state.commands import (
    Assign,
    Cancel,
    Command,
    Complete,
    Fail,
    LoseLease,
    RegisterCircuit,
    RegisterWorker,
    Start,
    Submit,
)
from coordinator.state.machine import State
from coordinator.state.model import TaskState
from coordinator.state.transitions import TRANSITIONS, Move

# Where a task goes from each state (rows) by each move (columns). "-" is refused, "=" repeats what was said before
# and changes nothing.
TABLE = """
              assign     start        complete   requeue  fail    cancel
pending       assigned   -            -          -        -       cancelled
assigned      -          in_progress  completed  pending  failed  cancelled
in_progress   -          =            completed  pending  failed  cancelled
completed     -          -            -          -        -       -
failed        -          -            -          -        -       -
cancelled     -          -            -          -        -       =
"""

HEADER, *ROWS = [line.split() for line in TABLE.strip().splitlines()]
CELLS = {
    (TaskState(state), Move(move)): cell for state, *cells in ROWS for move, cell in zip(HEADER, cells, strict=True)
}

REACHED: dict[TaskState, tuple[Command, ...]] = {
    TaskState.PENDING: (),
    TaskState.ASSIGNED: (Assign("t", "w"),),
    TaskState.IN_PROGRESS: (Assign("t", "w"), Start("t", "w", 1)),
    TaskState.COMPLETED: (Assign("t", "w"), Complete("t", "w", 1, b"first proof")),
    TaskState.FAILED: (Assign("t", "w"), Fail("t", "w", 1, "unsatisfied_inputs", "", retryable=False)),
    TaskState.CANCELLED: (Cancel("t"),),
}
MADE_BY: dict[Move, tuple[Command, ...]] = {
    Move.ASSIGN: (Assign("t", "w"),),
    Move.START: (Start("t", "w", 1),),
    Move.COMPLETE: (Complete("t", "w", 1, b"proof"),),
    Move.REQUEUE: (
        Fail("t", "w", 1, "prover_failed", "", retryable=True),
        Fail("t", "w", 1, "stopping", "", retryable=False, released=True),
        LoseLease("t", 1, "overran", ""),
    ),
    Move.FAIL: (Fail("t", "w", 1, "unsatisfied_inputs", "", retryable=False),),
    Move.CANCEL: (Cancel("t"),),
}


def task_in(state: TaskState) -> State:
    """A machine with one task "t" in that state, in its first attempt by worker "w" if it had one."""
    machine = State()
    setting = (
        RegisterCircuit("addition", "key"),
        RegisterWorker("w", "first", 1, frozenset({"addition"}), (), "1"),
        Submit("t", "client", "addition", b"secret", (), 1),
    )
    for command in (*setting, *REACHED[state]):
        assert machine.apply(command, 1_000, 1).refusal is None
    assert machine.tasks["t"].state is state
    return machine


def bytes_of(machine: State) -> bytes:
    """Everything there is to the machine."""
    return b"".join(capture_state(machine))


def test_the_code_has_the_same_table() -> None:
    """The state machine's table equals the one written here."""
    moves = {key: TaskState(cell) for key, cell in CELLS.items() if cell not in "-="}
    assert moves == TRANSITIONS


@pytest.mark.parametrize(
    ("state", "command", "cell"),
    [(state, command, cell) for (state, move), cell in CELLS.items() for command in MADE_BY[move]],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_each_command_does_what_the_table_says(state: TaskState, command: Command, cell: str) -> None:
    """In each state each command moves the task as listed, or is refused and changes not one byte."""
    machine = task_in(state)
    before = bytes_of(machine)
    outcome = machine.apply(command, 1_000, 1)
    if cell in "-=":
        assert (outcome.refusal is not None) == (cell == "-")
        assert outcome.duplicate == (cell == "=")
        assert not outcome.events
        assert bytes_of(machine) == before
    else:
        assert outcome.refusal is None
        assert machine.tasks["t"].state is TaskState(cell)
        assert [event.task for event in outcome.events] == [machine.tasks["t"]]


def test_the_same_proof_again_is_the_same_answer() -> None:
    """A worker whose report was accepted but not answered may report again, and is not refused."""
    machine = task_in(TaskState.COMPLETED)
    before = bytes_of(machine)
    outcome = machine.apply(Complete("t", "w", 1, b"first proof"), 1_000, 1)
    assert outcome.refusal is None
    assert outcome.duplicate
    assert outcome.task == machine.tasks["t"]
    assert bytes_of(machine) == before


def test_an_unknown_command_is_refused() -> None:
    """Whatever is not a command changes nothing and raises nothing."""
    machine = task_in(TaskState.PENDING)
    before = bytes_of(machine)
    outcome = machine.apply("no command", 9_000, 9)  # type: ignore[arg-type]  # that is the point
    assert outcome.refusal is not None
    assert bytes_of(machine) == before
