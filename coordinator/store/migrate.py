"""Schema migrations: SQL files, each applied once.

The leader applies them before it writes. Each file is one transaction under an advisory lock. A file must not be
edited once it has been applied: its checksum is stored, and a difference is an error, as is a newer
database.
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
    """One numbered migration file."""

    version: int
    name: str
    sql: bytes = field(repr=False)
    sha256: str


@dataclass(frozen=True, slots=True)
class Applied:
    """One row of the table of applied migrations."""

    version: int
    name: str
    sha256: str


def load_migrations(directory: Traversable | None = None) -> tuple[Migration, ...]:
    """Return the files NNNN_name.sql of `directory` (default: those of this release), in order.

    Raises:
        DatabaseSchemaError: Their numbers are not 1, 2, 3, ….
    """
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
    """Return the migrations that remain to be applied, in order.

    Raises:
        DatabaseSchemaError: The applied ones are not a prefix of the known ones.
    """
    if len(applied) > len(known):
        raise DatabaseSchemaError(
            f"the tables are at version {applied[-1].version}, and this release knows {len(known)}: "
            "run the newer release"
        )
    for migration, done in zip(known, applied, strict=False):
        if (migration.version, migration.sha256) != (done.version, done.sha256):
            raise DatabaseSchemaError(
                f"migration {done.version:04}_{done.name} has a different checksum from the applied one: "
                "run the release that applied it, or restore the file"
            )
    return known[len(applied) :]


async def migrate(connection: Connection, term: int, known: Sequence[Migration]) -> Sequence[Migration]:
    """Apply the outstanding migrations of `known` as the leader of `term`, and return them.

    Raises:
        DatabaseSchemaError: As `outstanding`, or the encoding of the database is not UTF-8.
        Fenced: A leader of a later term has written the projection.
    """
    done: list[Migration] = []
    while True:
        async with connection.transaction():
            await connection.execute(QUERIES["lock_migrations"])
            await connection.execute(QUERIES["create_migrations"])
            # Read again under the lock: another leader may have migrated first.
            todo = await unapplied(connection, known)
            if not todo:
                return done
            await _apply(connection, todo[0], term)
        done.append(todo[0])
        log.info("schema migrated to version %d (%s)", todo[0].version, todo[0].name, extra={"term": term})


async def unapplied(connection: Connection, known: Sequence[Migration]) -> Sequence[Migration]:
    """Return the outstanding migrations of the connected database, as `outstanding`."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES["find_tables"])
        tables = await cursor.fetchone()
        if tables is None or tables["migrations"] is None:
            return known
        await cursor.execute(QUERIES["applied_migrations"])
        return outstanding(known, [Applied(**row) for row in await cursor.fetchall()])


async def _apply(connection: Connection, migration: Migration, term: int) -> None:
    """Apply one file in the caller's transaction, fenced like every write, since it may change rows."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES["unlimited_statement"])
        await cursor.execute(QUERIES["use_term"], {"term": term})
        await cursor.execute(QUERIES["find_tables"])
        tables = await cursor.fetchone()
        if tables is not None and tables["projection"] is not None:
            await cursor.execute(QUERIES["raise_term"], {"term": term})
            if await cursor.fetchone() is None:
                raise Fenced(f"term {term} may not migrate the database: a leader of a later term writes it")
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
