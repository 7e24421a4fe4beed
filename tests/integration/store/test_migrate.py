"""Migrations on a real database."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest

from coordinator.store import Database, DatabaseSchemaError, Fenced
from coordinator.store.deadline import Connection
from coordinator.store.migrate import Migration, load_migrations, migrate, unapplied
from tests.integration.postgres import Databases, PostgresServer

KNOWN = load_migrations()
NEXT = Migration(len(KNOWN) + 1, "next", b"CREATE TABLE next (); UPDATE tasks SET retries = 0", "f" * 64)


@pytest.fixture
async def connection(empty_database: dict[str, str]) -> AsyncIterator[Connection]:
    """To a database without tables."""
    async with await Database(empty_database, application="test").connect_writer() as connection:
        yield connection


async def _names(connection: Connection) -> list[str]:
    cursor = await connection.execute("SELECT name FROM schema_migrations ORDER BY version")
    return [row[0] for row in await cursor.fetchall()]


async def test_an_empty_database_gets_all_tables_once(connection: Connection) -> None:
    """A second run finds nothing to do."""
    assert await unapplied(connection, KNOWN) == KNOWN
    assert await migrate(connection, 1, KNOWN) == list(KNOWN)
    assert await migrate(connection, 1, KNOWN) == []
    assert await _names(connection) == [migration.name for migration in KNOWN]


async def test_leaders_that_migrate_at_once_take_turns(
    connection: Connection, empty_database: dict[str, str]
) -> None:
    """Each migration is applied by one of them."""
    other = await Database(empty_database, application="other").connect_writer()
    async with other:
        done = await asyncio.gather(migrate(connection, 1, KNOWN), migrate(other, 1, KNOWN))

    assert sorted(migration.version for migration in [*done[0], *done[1]]) == [m.version for m in KNOWN]


async def test_a_migration_that_fails_leaves_nothing_behind(connection: Connection) -> None:
    """Its file is applied whole or not at all, and can be applied later."""
    broken = replace(NEXT, sql=b"CREATE TABLE half (); SELECT 1 / 0")
    with pytest.raises(psycopg.errors.DivisionByZero):
        await migrate(connection, 1, [*KNOWN, broken])
    cursor = await connection.execute("SELECT to_regclass('half')")
    assert await cursor.fetchone() == (None,)
    assert await _names(connection) == [migration.name for migration in KNOWN]

    assert await migrate(connection, 1, [*KNOWN, NEXT]) == [NEXT]


async def test_a_changed_file_and_a_newer_database_are_refused(connection: Connection) -> None:
    """Nothing is applied on top of tables that this release does not know."""
    await migrate(connection, 1, [*KNOWN, NEXT])

    with pytest.raises(DatabaseSchemaError, match="run the newer release"):
        await migrate(connection, 1, KNOWN)
    with pytest.raises(DatabaseSchemaError, match="_next has a different checksum"):
        await migrate(connection, 1, [*KNOWN, replace(NEXT, sha256="0" * 64), replace(NEXT, version=9)])


async def test_a_deposed_leader_does_not_migrate(connection: Connection) -> None:
    """The tables belong to the leader of the latest term, like the rows."""
    await migrate(connection, 5, KNOWN)

    with pytest.raises(Fenced, match="term 4 may not migrate"):
        await migrate(connection, 4, [*KNOWN, NEXT])
    assert await _names(connection) == [migration.name for migration in KNOWN]


async def test_a_database_that_cannot_hold_every_text_is_refused(
    postgres: PostgresServer, databases: Databases
) -> None:
    """The message says how to create a good one."""
    name = databases.create(encoding="LATIN1", lc_collate="C", lc_ctype="C")
    async with await Database(postgres.parameters(name), application="test").connect_writer() as connection:
        with pytest.raises(DatabaseSchemaError, match="encoding is LATIN1: create it with ENCODING 'UTF8'"):
            await migrate(connection, 1, KNOWN)
    databases.drop(name)
