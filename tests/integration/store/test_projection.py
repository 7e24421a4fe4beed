"""What batches leave in the tables."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from coordinator.state.commands import Assign, Cancel, Command, Complete, Fail, Quarantine, Start
from coordinator.state.machine import State
from coordinator.state.model import Task, TaskState
from coordinator.store import Database, ProjectionReader
from coordinator.store.batch import collapse
from coordinator.store.projection import ProjectionWriter
from tests.unit.store.histories import SETTING, one_completed, play, submit


@pytest.fixture
async def projection(record_database: Database) -> AsyncIterator[ProjectionWriter]:
    """The writer of term 1."""
    async with await record_database.connect_writer() as connection:
        projection = ProjectionWriter(connection, 1)
        await projection.begin()
        yield projection


@pytest.fixture
async def record(record_database: Database) -> AsyncIterator[ProjectionReader]:
    record = ProjectionReader(record_database, 2)
    yield record
    await record.close()


def public(task: Task) -> Task:
    """A task as the record holds it."""
    return replace(task, digest=b"")


async def test_tasks_and_attempts_come_back_as_they_were(
    projection: ProjectionWriter, record: ProjectionReader
) -> None:
    """Every value of theirs, to the millisecond, through a batch for each event."""
    state = State()
    again: list[Command] = [
        submit("again", max_retries=2),
        Assign("again", "worker-1"),
        Start("again", "worker-1", 1),
        Fail("again", "worker-1", 1, "prover_failed", "größer ≥ 😀 'quoted' {a,b} \\", True),
        Assign("again", "worker-2"),
    ]
    events = play(state, [*SETTING, *one_completed("done"), *again, submit("gone"), Cancel("gone")])

    for event in events:
        assert await projection.write(collapse([event], event.revision - 1), event.revision - 1) == frozenset()

    for task in state.tasks.values():
        assert await record.get_task(task.id) == public(task)
    first, second = await record.get_attempts("again")
    assert (first.state, first.worker_id, first.error_message) == (
        "failed",
        "worker-1",
        "größer ≥ 😀 'quoted' {a,b} \\",
    )
    assert first.ended_ms > first.started_ms > first.assigned_ms > state.tasks["again"].created_ms
    assert (second.state, second.worker_id, second.started_ms, second.ended_ms) == ("assigned", "worker-2", 0, 0)
    assert await record.get_attempts("gone") == ()


async def test_text_that_postgresql_cannot_hold_does_not_stop_the_record(
    projection: ProjectionWriter, record: ProjectionReader
) -> None:
    """A worker's message with a NUL or half a surrogate in it is recorded with a replacement character."""
    state = State()
    failure = Fail("task-1", "worker-1", 1, "prover_failed", "bad \0 text \ud800", False)
    events = play(state, [*SETTING, submit("task-1"), Assign("task-1", "worker-1"), failure])
    events += play(state, [Quarantine("worker-2", "sent \0")])

    await projection.write(collapse(events, 0), 0)

    task = await record.get_task("task-1")
    assert task is not None
    assert task.error_message == "bad \ufffd text \ufffd"


async def test_an_id_that_is_used_again_does_not_replace_what_was_recorded(
    projection: ProjectionWriter, record: ProjectionReader
) -> None:
    """The cluster may have forgotten a finished task; the record keeps it, says so, and goes on with the rest."""
    first, second = State(), State()
    await projection.write(collapse(play(first, [*SETTING, *one_completed("task-1")]), 0), 0)
    play(second, SETTING)
    later: list[Command] = [
        submit("task-1", "range_proof"),
        Assign("task-1", "worker-2"),
        Complete("task-1", "worker-2", 1, b"another proof"),
        submit("task-2"),
    ]
    second.revision = first.revision
    events = play(second, later)

    assert await projection.write(collapse(events, first.revision), first.revision) == {"task-1"}

    assert await record.get_task("task-1") == public(first.tasks["task-1"])
    assert [attempt.worker_id for attempt in await record.get_attempts("task-1")] == ["worker-1"]
    assert await record.get_task("task-2") is not None


async def test_a_full_batch_of_new_tasks_is_written_at_once(
    projection: ProjectionWriter, record: ProjectionReader
) -> None:
    """A thousand rows, each with lists of its own."""
    state = State()
    events = play(state, [*SETTING, *(submit(f"task-{number}") for number in range(995))])

    await projection.write(collapse(events, 0), 0)

    summary = await record.summary()
    assert (summary.revision, summary.counts[TaskState.PENDING]) == (1000, 995)
    assert await record.get_task("task-500") == public(state.tasks["task-500"])


async def test_no_column_holds_private_inputs(record_database: Database, projection: ProjectionWriter) -> None:
    """Looked for in every row of every table as text."""
    state = State()
    await projection.write(collapse(play(state, [*SETTING, *one_completed("done"), submit("waiting")]), 0), 0)
    digest = state.tasks["waiting"].digest.hex()

    async with await record_database.connect_writer() as connection:
        found = await connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        tables = [row[0] for row in await found.fetchall()]
        text = ""
        for table in tables:
            rows = await connection.execute(f"SELECT t::text FROM {table} AS t".encode())  # noqa: S608 - our names
            text += "".join(row[0] for row in await rows.fetchall())

    assert "waiting" in text
    assert b"proof of done".hex() in text
    assert b"private".hex() not in text
    assert "private" not in text
    assert digest not in text
