"""A bounded number of read-only connections, kept open between uses.

An idle connection that was cut meanwhile is replaced on its next use, so that a restart of PostgreSQL is not
seen; while PostgreSQL is away every read fails at once, with the reason.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.rows import DictRow

from coordinator.store.connection import Database, describe
from coordinator.store.deadline import Connection, answered
from coordinator.store.errors import ProjectionUnavailable
from coordinator.store.observer import StoreObserver

ANSWER = 5.0
"""Seconds for one read, above the server's own limit of three."""
WAIT = 2.0
"""Seconds to wait for a free connection."""


@dataclass(frozen=True, slots=True)
class ConnectionPool:
    """How many are open and unused, in use, and allowed."""

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
        """As they are now."""
        return ConnectionPool(len(self._idle), self._busy, self._limit)

    async def fetch(self, statement: bytes, parameters: Mapping[str, object]) -> list[DictRow]:
        """All rows; ProjectionUnavailable when PostgreSQL is away, hangs or refuses, or no connection is free."""
        async with self._slot():
            try:
                with self._observer.asking("read"):
                    return await self._fetch(statement, parameters)
            except psycopg.errors.UndefinedTable:
                raise ProjectionUnavailable("the database has no tables yet: a leader creates them") from None
            except (psycopg.Error, OSError) as error:
                raise ProjectionUnavailable(describe(error)) from error

    async def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            await self._idle.pop().close()

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        try:
            await asyncio.wait_for(self._slots.acquire(), WAIT)
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
                # Cut while it was idle; so, most likely, were the others. Reading twice does no harm.
                await self.close()
        return await self._fetch_over(await self._database.connect_reader(), statement, parameters)

    async def _fetch_over(
        self, connection: Connection, statement: bytes, parameters: Mapping[str, object]
    ) -> list[DictRow]:
        try:
            rows = await answered(connection, ANSWER, _rows(connection, statement, parameters))
        except BaseException:
            await connection.close()
            raise
        self._idle.append(connection)
        return rows


async def _rows(connection: Connection, statement: bytes, parameters: Mapping[str, Any]) -> list[DictRow]:
    async with connection.cursor() as cursor:
        await cursor.execute(statement, parameters)
        return await cursor.fetchall()
