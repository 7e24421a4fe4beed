"""Whoever is not the leader of the latest term cannot write, through the code or past it."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from coordinator.state.machine import State
from coordinator.store import Database, Fenced
from coordinator.store.batch import collapse
from coordinator.store.deadline import Connection
from coordinator.store.projection import ProjectionWriter
from tests.unit.store.histories import SETTING, one_completed, play, submit

STATE = State()
EVENTS = play(STATE, [*SETTING, *one_completed("done"), submit("waiting")], term=3)
REVISION = len(EVENTS)
NEXT = collapse(play(STATE, [submit("next")]), REVISION)

REFUSED = psycopg.errors.InsufficientPrivilege


@pytest.fixture
async def old(record_database: Database) -> AsyncIterator[Connection]:
    """The connection of the leader of term 3, which has recorded a finished task and a waiting one."""
    async with await record_database.connect_writer() as connection:
        projection = ProjectionWriter(connection, 3)
        assert (await projection.begin()).revision == 0
        await projection.write(collapse(EVENTS, 0), 0)
        yield connection


@pytest.fixture
async def new(record_database: Database) -> AsyncIterator[Connection]:
    """Another connection, of a leader to come."""
    async with await record_database.connect_writer() as connection:
        yield connection


async def _tasks(connection: Connection) -> dict[str, str]:
    cursor = await connection.execute("SELECT id, state FROM tasks")
    return dict(await cursor.fetchall())


async def test_a_deposed_leader_is_told_that_it_is_not_the_writer_any_more(old: Connection, new: Connection) -> None:
    """Its write, its check and its attempt to begin again change nothing."""
    deposed = ProjectionWriter(old, 3)
    position = await ProjectionWriter(new, 4).begin()
    assert (position.term, position.revision) == (4, REVISION)

    with pytest.raises(Fenced, match=f"projection is at term 4, revision {REVISION}, this leader at term 3"):
        await deposed.write(NEXT, REVISION)
    with pytest.raises(Fenced):
        await deposed.check(REVISION)
    with pytest.raises(Fenced):
        await deposed.begin()
    assert "next" not in await _tasks(new)

    assert await ProjectionWriter(new, 4).write(NEXT, REVISION) == frozenset()
    assert "next" in await _tasks(new)


async def test_a_batch_is_written_once(old: Connection) -> None:
    """The same writer with the same batch again finds the revision moved on."""
    projection = ProjectionWriter(old, 3)
    await projection.write(NEXT, REVISION)

    with pytest.raises(Fenced, match=f"projection is at term 3, revision {REVISION + 1}"):
        await projection.write(NEXT, REVISION)


async def test_a_new_leader_waits_for_a_write_that_is_under_way(old: Connection, new: Connection) -> None:
    """What the old leader commits before the term changes is counted by the new one; nothing falls in between."""
    async with old.transaction():
        await old.execute("SELECT set_config('zkp.term', '3', true)")
        await old.execute("UPDATE projection SET revision = revision + 1 WHERE term = 3")
        beginning = asyncio.ensure_future(ProjectionWriter(new, 4).begin())
        cursor = await old.execute("SELECT 1 FROM tasks LIMIT 1")
        assert await cursor.fetchone() is not None
        assert not beginning.done()

    assert (await beginning).revision == REVISION + 1


async def test_the_term_of_one_transaction_does_not_last_into_the_next(old: Connection) -> None:
    """A connection that has written lawfully is no open door."""
    await ProjectionWriter(old, 3).write(NEXT, REVISION)

    with pytest.raises(REFUSED, match="the writer is the leader of term 3, and this transaction is of term none"):
        await old.execute("UPDATE tasks SET retries = 1 WHERE id = 'waiting'")


async def test_a_write_past_the_code_that_is_under_way_holds_up_a_new_leader(
    old: Connection, new: Connection
) -> None:
    """The trigger locks the projection: the term cannot change between its check and the commit."""
    async with old.transaction():
        await old.execute("SELECT set_config('zkp.term', '3', true)")
        await old.execute("UPDATE tasks SET retries = 1 WHERE id = 'waiting'")
        await new.execute("SET lock_timeout = '100ms'")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            await ProjectionWriter(new, 4).begin()

    assert (await ProjectionWriter(new, 4).begin()).term == 4
