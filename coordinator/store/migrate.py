"""Brings the tables to the version that this release works with: plain SQL files, each applied once.

Done by the leader, before it writes. Each file is one transaction under an advisory lock. A file that was
applied is never edited: its checksum is kept, and a difference, like a database newer than the code, is
refused.
"""

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable

from psycopg.rows import dict_row

from coordinator.store.deadline import Connection
from coordinator.store.errors import DatabaseSchemaError, Fenced
from coordinator.store.queries import QUERIES

_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")

log = logging.getLogger("zkp.store")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file."""

    version: int
    name: str
    sql: bytes = field(repr=False)
    sha256: str


@dataclass(frozen=True, slots=True)
class Applied:
    """One line of the database's list of what was applied."""

    version: int
    name: str
    sha256: str


def load_migrations(directory: Traversable | None = None) -> tuple[Migration, ...]:
    """The files NNNN_name.sql of `directory` (default: this release's), numbered from 1, or DatabaseSchemaError."""
    if directory is None:
        directory = resources.files(__package__).joinpath("migrations")
    found = []
    for file in sorted(directory.iterdir(), key=lambda file: file.name):
        match = _FILE_NAME.fullmatch(file.name)
        if match:
            sql = file.read_bytes()
            found.append(Migration(int(match[1]), match[2], sql, hashlib.sha256(sql).hexdigest()))
    for number, migration in enumerate(found, start=1):
        if migration.version != number:
            raise DatabaseSchemaError(f"migrations: {number:04} is missing or duplicated: reinstall this release")
    return tuple(found)


def outstanding(known: Sequence[Migration], applied: Sequence[Applied]) -> Sequence[Migration]:
    """What is still to apply, in order; DatabaseSchemaError when the database is no earlier state of ours."""
    if len(applied) > len(known):
        raise DatabaseSchemaError(
            f"the tables are at version {applied[-1].version}, and this release knows {len(known)}: "
            "run the newer release"
        )
    for ours, theirs in zip(known, applied, strict=False):
        if (ours.version, ours.sha256) != (theirs.version, theirs.sha256):
            raise DatabaseSchemaError(
                f"migration {theirs.version:04}_{theirs.name} was applied with other content than here: "
                "run the release that applied it, or put the file back as it was"
            )
    return known[len(applied) :]


async def migrate(connection: Connection, term: int, known: Sequence[Migration]) -> Sequence[Migration]:
    """Apply what is outstanding of the `known` migrations, as the leader of `term`, and return it.

    Raises DatabaseSchemaError as `outstanding` does, and Fenced when a later term has written to the record.
    """
    done: list[Migration] = []
    while True:
        async with connection.transaction():
            await connection.execute(QUERIES["lock_migrations"])
            await connection.execute(QUERIES["create_migrations"])
            # Read again under the lock: another leader may have been faster.
            todo = await unapplied(connection, known)
            if not todo:
                return done
            await _apply(connection, todo[0], term)
        done.append(todo[0])
        log.info("schema migrated to version %d (%s)", todo[0].version, todo[0].name, extra={"term": term})


async def unapplied(connection: Connection, known: Sequence[Migration]) -> Sequence[Migration]:
    """What `outstanding` says of the database as it is now."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES["find_tables"])
        tables = await cursor.fetchone()
        if tables is None or tables["migrations"] is None:
            return known
        await cursor.execute(QUERIES["applied_migrations"])
        return outstanding(known, [Applied(**row) for row in await cursor.fetchall()])


async def _apply(connection: Connection, migration: Migration, term: int) -> None:
    """One file, in the caller's transaction, fenced as every write is: it may change rows."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES["unlimited_statement"])
        await cursor.execute(QUERIES["use_term"], {"term": term})
        await cursor.execute(QUERIES["find_tables"])
        tables = await cursor.fetchone()
        if tables is not None and tables["projection"] is not None:
            await cursor.execute(QUERIES["raise_term"], {"term": term})
            if await cursor.fetchone() is None:
                raise Fenced(f"term {term} may not migrate the database: a later term writes it")
        else:
            await _check_encoding(connection)
        await cursor.execute(migration.sql)
        await cursor.execute(
            QUERIES["record_migration"],
            {"version": migration.version, "name": migration.name, "sha256": migration.sha256},
        )


async def _check_encoding(connection: Connection) -> None:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES["database_encoding"])
        row = await cursor.fetchone()
    if row is None or row["encoding"] != "UTF8":
        found = row["encoding"] if row else "unknown"
        raise DatabaseSchemaError(
            f"the database's encoding is {found}: create it with ENCODING 'UTF8' TEMPLATE template0"
        )
