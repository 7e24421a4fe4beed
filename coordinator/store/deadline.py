"""A limit on how long an answer of PostgreSQL may take, for the case that it hangs instead of failing.

`statement_timeout` is the server's own, and a server that is stopped, frozen or cut off does not keep it.
Cancelling a psycopg call asks the server to cancel and waits for it, so that does not help either: what helps
is to hang up.
"""

import asyncio
import os
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

import psycopg

from coordinator.store.errors import ProjectionUnavailable

Answer = TypeVar("Answer")
Connection = psycopg.AsyncConnection[Any]


async def answered(connection: Connection, seconds: float, work: Coroutine[Any, Any, Answer]) -> Answer:
    """What `work`, which uses `connection`, returns.

    When `seconds` have passed, or when the caller is cancelled, the line is cut: the connection is of no use
    any more, and a transaction that was open on it is rolled back by the server, or was just being committed.
    Raises ProjectionUnavailable after `seconds`, and whatever `work` raises.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            raise ProjectionUnavailable(f"PostgreSQL has not answered for {seconds:g} s")
        return task.result()
    finally:
        if not task.done():
            _hang_up(connection)
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # it failed because of the cut: looked at, so that nobody warns of it


def _hang_up(connection: Connection) -> None:
    # A second descriptor of the same line: libpq sees the end of the stream and gives up by itself.
    with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)
