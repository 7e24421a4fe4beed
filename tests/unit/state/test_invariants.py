"""`State.check` finds every disagreement between the tasks and an index."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from coordinator.state.codec import CodecError, decode_state
from coordinator.state.commands import Assign, Complete, Projected, RegisterCircuit, RegisterWorker, Submit
from coordinator.state.invariants import InvariantError
from coordinator.state.machine import State
from coordinator.state.model import TaskState
from tests.unit.state.histories import bytes_of


def make_state() -> State:
    """Two pending tasks, one assigned, one completed and projected."""
    state = State()
    state.apply(RegisterCircuit("addition", "key"), 1, 1)
    state.apply(RegisterWorker("w", "first", 4, frozenset({"addition"}), (), "1", "a1"), 1, 1)
    for name in ("p1", "p2", "assigned", "done"):
        state.apply(Submit(name, "client/alice", "addition", b"inputs", (), 1), 2, 1)
    for name in ("assigned", "done"):
        state.apply(Assign(name, "w"), 3, 1)
    state.apply(Complete("done", "w", 1, b"proof"), 4, 1)
    state.apply(Projected(state.revision - 1, 0), 5, 1)
    return state


def change(state: State, name: str, **values: object) -> None:
    state.tasks[name] = replace(state.tasks[name], **values)  # type: ignore[arg-type]


BROKEN: dict[str, Callable[[State], object]] = {
    "the counts and": lambda state: state.counts.update({TaskState.PENDING: 7}),
    "the counts of circuit addition": lambda state: state.counts_by_circuit["addition"].update({TaskState.FAILED: 1}),
    "the queue and": lambda state: state.queue.popitem(),
    "a pending task has a worker": lambda state: change(state, "p1", worker_id="w"),
    "the leases and": lambda state: state.leases["w"].add("p1"),
    "the list of ended tasks": lambda state: state.finished.update({"p1": None}),
    "the private inputs": lambda state: state.inputs.pop("p1"),
    "its proof does not fit": lambda state: change(state, "assigned", proof=b"proof"),
    "more retries": lambda state: change(state, "p1", retries=2),
    "the outbox": lambda state: state.outbox.pop(),
}


def test_a_state_that_was_reached_by_commands_passes() -> None:
    """As does one that was restored."""
    state = make_state()
    state.check()
    decode_state(bytes_of(state)).check()


@pytest.mark.parametrize("message", BROKEN)
def test_each_disagreement_is_named(message: str) -> None:
    """One index is changed without the others."""
    state = make_state()
    BROKEN[message](state)
    with pytest.raises(InvariantError, match=message):
        state.check()


@pytest.mark.parametrize("message", ["the queue and", "its proof does not fit", "the outbox"])
def test_an_inconsistent_snapshot_is_refused(message: str) -> None:
    """Indexes that are not stored are made from the tasks; the others are checked."""
    state = make_state()
    BROKEN[message](state)
    with pytest.raises(CodecError, match=f"snapshot is inconsistent: .*{message}"):
        decode_state(bytes_of(state))
