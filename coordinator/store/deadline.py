"""A client-side limit on the time of a statement, for when PostgreSQL hangs instead of failing.

`statement_timeout` is enforced by the server, and a server that is stopped, frozen or disconnected does not do so.
Cancelling a psycopg call sends a cancel request and waits for the server, which does not help either. Therefore the
connection is closed.
"""

import asyncio
import os
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import psycopg

from coordinator.store.errors import ProjectionUnavailable

Result = TypeVar("Result")
Connection = psycopg.AsyncConnection[Any]


async def with_deadline(connection: Connection, seconds: float, work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of `work`, which uses `connection`.

    After `seconds`, or when the caller is cancelled, the TCP connection is shut down: `connection` can no longer be
    used, and the server rolls back its open transaction unless the commit was already in progress.

    Raises:
        ProjectionUnavailable: `work` took longer than `seconds`.
        Exception: Any exception of `work`.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise ProjectionUnavailable(f"PostgreSQL did not respond within {seconds:g} s")
        return task.result()
    finally:
        if not task.done():
            _abort_connection(connection)
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # retrieved, so that asyncio does not warn: it failed because of the shutdown


def _abort_connection(connection: Connection) -> None:
    # A second descriptor of the same connection: libpq reads the end of the stream and fails.
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as duplicate:
        duplicate.shutdown(socket.SHUT_RDWR)
