"""Folding events into rows, without a database."""

import json
import random
from dataclasses import replace

import pytest

from coordinator.state.commands import Assign, Command, Complete, Fail
from coordinator.state.machine import State
from coordinator.state.model import EventKind, TaskEvent, TaskState
from coordinator.store.batch import (
    attempt_columns,
    collapse,
    fingerprint,
    sanitize_text,
    task_columns,
    worker_columns,
)
from coordinator.store.errors import ProjectionBehind
from tests.unit.store.histories import SETTING, one_completed, play, random_commands, submit


def test_only_the_last_image_of_each_thing_is_kept() -> None:
    """A task that went from pending to completed within a batch is written once, as completed."""
    state = State()
    events = play(state, [*SETTING, *one_completed("task-1")])

    batch = collapse(events, after=0)

    assert batch.revision == state.revision == events[-1].revision
    assert list(batch.tasks.values()) == [state.tasks["task-1"]]
    assert [attempt.state for attempt in batch.attempts.values()] == ["completed"]
    assert dict(batch.workers) == state.workers
    assert dict(batch.circuits) == state.circuits


def test_each_attempt_has_its_own_row() -> None:
    """A task's second attempt does not replace the first."""
    state = State()
    first: list[Command] = [
        submit("task-1"),
        Assign("task-1", "worker-1"),
        Fail("task-1", "worker-1", 1, "timeout", "", True),
    ]
    events = play(
        state, [*SETTING, *first, Assign("task-1", "worker-2"), Complete("task-1", "worker-2", 2, b"proof")]
    )

    attempts = collapse(events, after=0).attempts

    assert {key: attempt.state for key, attempt in attempts.items()} == {
        ("task-1", 1): "failed",
        ("task-1", 2): "completed",
    }


@pytest.mark.parametrize("missing", [0, 3])
def test_a_gap_is_refused(missing: int) -> None:
    """A batch that skips an event, at its start or within, is not written: the record would lack it for ever."""
    events = play(State(), SETTING)
    del events[missing]

    with pytest.raises(ProjectionBehind, match=f"event {missing + 1} "):
        collapse(events, after=0)


def test_however_a_history_is_split_its_batches_add_up_to_the_state() -> None:
    """Writing batch over batch leaves the same rows as the state machine has in memory."""
    for seed in range(30):
        chance = random.Random(seed)
        state = State()
        events = play(state, SETTING)
        for command in random_commands(state, chance, 80):
            events += play(state, [command])
        rows: dict[object, object] = {}
        after = 0
        while after < len(events):
            size = chance.randint(1, 20)
            batch = collapse(events[after : after + size], after)
            for images in (batch.tasks, batch.workers, batch.circuits, batch.revocations):
                rows.update(images)
            after = batch.revision
        assert {key: rows[key] for key in state.tasks} == state.tasks
        assert {key: rows[key] for key in state.workers} == state.workers
        assert {key: rows[key] for key in state.circuits} == state.circuits
        assert {key: rows[key] for key in state.revoked} == state.revoked


def test_private_inputs_are_in_no_column() -> None:
    """Neither the inputs nor the digest, against which guesses could be tried, are handed to SQL."""
    state = State()
    play(state, [*SETTING, submit("task-1")])
    task = state.tasks["task-1"]

    columns = task_columns([task])

    assert b"private" in state.inputs[task.id]
    assert "private" not in repr(columns)
    assert not {"inputs", "digest"} & set(columns)
    assert task.digest not in [value for column in columns.values() for value in column]


def test_a_proof_is_written_for_completed_tasks_alone() -> None:
    """The column is NULL until there is an accepted proof."""
    state = State()
    play(state, [*SETTING, *one_completed("task-1"), submit("task-2")])

    assert task_columns(state.tasks.values())["proof"] == [b"proof of task-1", None]


def test_lists_travel_as_json() -> None:
    """Lists of different lengths fit into one column, in order."""
    state = State()
    play(state, [*SETTING, submit("task-1")])

    assert json.loads(str(task_columns(state.tasks.values())["public_inputs"][0])) == ["1", "22", "333"]
    assert json.loads(str(worker_columns(state.workers.values())["circuits"][0])) == ["addition", "range_proof"]


def test_every_column_has_one_value_a_row() -> None:
    """What goes into unnest is as long as the batch in every column."""
    state = State()
    events = play(state, [*SETTING, *one_completed("a"), *one_completed("b"), submit("c")])
    batch = collapse(events, 0)

    assert {len(column) for column in task_columns(batch.tasks.values()).values()} == {3}
    assert {len(column) for column in attempt_columns(batch.attempts.values()).values()} == {2}


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("plain", "plain"),
        ("größer ≥ 😀", "größer ≥ 😀"),
        ("a\0b", "a\ufffdb"),
        ("lone \ud800 and \udfff", "lone \ufffd and \ufffd"),
        ("", ""),
    ],
)
def test_text_is_made_storable(text: str, stored: str) -> None:
    """What PostgreSQL cannot hold is replaced, and nothing else is touched."""
    assert sanitize_text(text) == stored


def test_the_fingerprint_of_an_event_stays_the_same_in_every_release() -> None:
    """It is compared with what an earlier release has stored: a change of its recipe would refuse every record."""
    events = play(State(), [*SETTING, *one_completed("task-1")])

    assert fingerprint(events[0]).hex() == "51f22d0787f1184d6eecd25fe2acdb4457249d698b4839a61aefc7c54fb092fc"
    assert fingerprint(events[-1]).hex() == "43b22923e6e196723a697cf82d87a0d5914f661c5b449aefd67257e54b9af9d2"


def test_the_fingerprint_tells_histories_apart() -> None:
    """Two events under one number that differ in time, kind or what they say have different fingerprints."""
    event = play(State(), [*SETTING, submit("task-1")])[-1]
    assert event.task is not None
    others: list[TaskEvent] = [
        replace(event, at_ms=event.at_ms + 1),
        replace(event, kind=EventKind.TASK_REQUEUED),
        replace(event, task=replace(event.task, id="task-2")),
        replace(event, task=replace(event.task, state=TaskState.FAILED)),
        replace(event, task=None),
    ]

    assert len({fingerprint(other) for other in [event, *others]}) == 6
