"""Bounded pool of read-only connections.

An idle connection that was closed by the server is replaced on its next use, so that callers do not notice a restart
of PostgreSQL; while PostgreSQL is unavailable every read fails immediately, with the reason.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import DictRow

from coordinator.store.connection import Database, describe
from coordinator.store.deadline import Connection, with_deadline
from coordinator.store.errors import ProjectionUnavailable
from coordinator.store.observer import StoreObserver

STATEMENT_TIMEOUT_S = 5.0
"""Limit for one read, above the server's `statement_timeout` of 3 s."""
POOL_TIMEOUT_S = 2.0
"""Limit for the wait for a free connection."""


@dataclass(frozen=True, slots=True)
class ConnectionPool:
    """Numbers of connections: idle, busy, and the maximum of both together."""

    idle: int
    busy: int
    limit: int


class Readers:
    """Runs one statement at a time on each of at most `limit` connections."""

    def __init__(self, database: Database, limit: int, observer: StoreObserver) -> None:
        self._database = database
        self._observer = observer
        self._busy = 0
        self._limit = limit
        self._slots = asyncio.Semaphore(limit)
        self._idle: list[Connection] = []

    @property
    def connections(self) -> ConnectionPool:
        """The current numbers of connections."""
        return ConnectionPool(len(self._idle), self._busy, self._limit)

    async def fetch(self, statement: bytes, parameters: Mapping[str, object]) -> list[DictRow]:
        """Return all rows of a statement.

        Raises:
            ProjectionUnavailable: PostgreSQL is unavailable, hangs or refuses, or no connection is free.
        """
        async with self._slot():
            try:
                with self._observer.query_timer("read"):
                    return await self._fetch(statement, parameters)
            except psycopg.errors.UndefinedTable:
                raise ProjectionUnavailable("the projection has no tables yet: a leader creates them") from None
            except (psycopg.Error, OSError) as error:
                raise ProjectionUnavailable(describe(error)) from error

    async def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            await self._idle.pop().close()

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(self._slots.acquire(), POOL_TIMEOUT_S)
        except TimeoutError:
            raise ProjectionUnavailable(f"all {self._limit} connections for reading are busy") from None
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._slots.release()

    async def _fetch(self, statement: bytes, parameters: Mapping[str, object]) -> list[DictRow]:
        if self._idle:
            try:
                return await self._fetch_over(self._idle.pop(), statement, parameters)
            except psycopg.errors.QueryCanceled:
                raise
            except psycopg.OperationalError:
                # Closed while it was idle, as most likely were the others. A read may safely be repeated.
                await self.close()
        return await self._fetch_over(await self._database.connect_reader(), statement, parameters)

    async def _fetch_over(
        self, connection: Connection, statement: bytes, parameters: Mapping[str, object]
    ) -> list[DictRow]:
        try:
            rows = await with_deadline(connection, STATEMENT_TIMEOUT_S, _rows(connection, statement, parameters))
        except BaseException:
            await connection.close()
            raise
        self._idle.append(connection)
        return rows


async def _rows(connection: Connection, statement: bytes, parameters: Mapping[str, Any]) -> list[DictRow]:
    async with connection.cursor() as cursor:
        await cursor.execute(statement, parameters)
        return await cursor.fetchall()
