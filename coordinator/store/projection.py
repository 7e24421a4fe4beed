"""Writes of batches of events to the projection: by one writer, in order, each exactly once.

The fence is in the database: every transaction starts with an update of the projection's revision, on the condition
that its term and revision are the expected ones. For a deposed leader that update finds no row.
"""

import logging
from dataclasses import dataclass

import psycopg
from psycopg.rows import DictRow, dict_row

from coordinator.store.batch import (
    Batch,
    attempt_columns,
    circuit_columns,
    revocation_columns,
    task_columns,
    worker_columns,
)
from coordinator.store.deadline import Connection
from coordinator.store.errors import Fenced
from coordinator.store.queries import QUERIES

log = logging.getLogger("zkp.store")

Cursor = psycopg.AsyncCursor[DictRow]


@dataclass(frozen=True, slots=True)
class Position:
    """State of a projection: its last revision, the fingerprint of that event, the term that may write it."""

    term: int
    revision: int
    fingerprint: bytes | None


class ProjectionWriter:
    """Writes the projection as the leader of one term, over a connection of its own.

    Every method is one transaction. After a psycopg.Error it is unknown whether the transaction was committed: call
    `begin` again, over a new connection.
    """

    def __init__(self, connection: Connection, term: int) -> None:
        self._connection = connection
        self._term = term

    async def position(self) -> Position | None:
        """Return the position of the projection without writing anything; None if it has no tables."""
        async with self._connection.transaction(), self._cursor() as cursor:
            await cursor.execute(QUERIES["find_tables"])
            tables = await cursor.fetchone()
            if tables is None or tables["projection"] is None:
                return None
            await cursor.execute(QUERIES["position"])
            row = await cursor.fetchone()
        return None if row is None else Position(**row)

    async def begin(self) -> Position:
        """Become the writer, and fence every earlier term.

        Raises:
            Fenced: A leader of a later term has written.
        """
        async with self._connection.transaction(), self._cursor() as cursor:
            await cursor.execute(QUERIES["use_term"], {"term": self._term})
            await cursor.execute(QUERIES["raise_term"], {"term": self._term})
            row = await cursor.fetchone()
            if row is None:
                raise await self._fenced(cursor)
        return Position(**row)

    async def write(self, batch: Batch, expected: int) -> frozenset[str]:
        """Write the batch of events after revision `expected`.

        Returns:
            The ids of tasks that were skipped because the projection has a final task with the same id: a client
            reused the id after the cluster had evicted the task.

        Raises:
            Fenced: This leader is no longer the writer.
        """
        async with self._connection.transaction(), self._cursor() as cursor:
            await cursor.execute(QUERIES["use_term"], {"term": self._term})
            await cursor.execute(
                QUERIES["advance"],
                {
                    "term": self._term,
                    "expected": expected,
                    "revision": batch.revision,
                    "fingerprint": batch.fingerprint,
                },
            )
            if await cursor.fetchone() is None:
                raise await self._fenced(cursor, expected)
            return await _write_rows(cursor, batch)

    async def check(self, expected: int) -> None:
        """Check that this term is still the writer and the projection is at revision `expected`.

        Raises:
            Fenced: It is not.
        """
        async with self._connection.transaction(), self._cursor() as cursor:
            await cursor.execute(QUERIES["position"])
            row = await cursor.fetchone()
            if row is None or (row["term"], row["revision"]) != (self._term, expected):
                raise await self._fenced(cursor, expected)

    def _cursor(self) -> Cursor:
        return self._connection.cursor(row_factory=dict_row)

    async def _fenced(self, cursor: Cursor, expected: int | None = None) -> Fenced:
        await cursor.execute(QUERIES["position"])
        row = await cursor.fetchone()
        actual = f"term {row['term']}, revision {row['revision']}" if row else "nothing"
        mine = f"term {self._term}" + ("" if expected is None else f", revision {expected}")
        return Fenced(
            f"no longer the writer: the projection is at {actual}, this leader at {mine} "
            "(a later leader writes it, or the database belongs to an earlier cluster)"
        )


async def _write_rows(cursor: Cursor, batch: Batch) -> frozenset[str]:
    if batch.circuits:
        await cursor.execute(QUERIES["write_circuits"], circuit_columns(batch.circuits.values()))
    if batch.workers:
        await cursor.execute(QUERIES["write_workers"], worker_columns(batch.workers.values()))
    if batch.revocations:
        await cursor.execute(QUERIES["write_revocations"], revocation_columns(batch.revocations.values()))
    if not batch.tasks:
        return frozenset()
    await cursor.execute(QUERIES["write_tasks"], task_columns(batch.tasks.values()))
    written = {row["id"] for row in await cursor.fetchall()}
    # An attempt belongs to a task in the same batch, and is skipped with it.
    attempts = [attempt for attempt in batch.attempts.values() if attempt.task_id in written]
    if attempts:
        await cursor.execute(QUERIES["write_attempts"], attempt_columns(attempts))
    return frozenset(batch.tasks) - written
