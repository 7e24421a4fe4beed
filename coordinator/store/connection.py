"""Connections to PostgreSQL, from libpq's keywords, with timeouts of our own.

The keywords come from the coordinator's `database.*` settings, whose validation requires TLS with verify-full for
network addresses. They may include a password: this module never logs or shows them.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import dict_row

from coordinator.store.deadline import Connection
from coordinator.store.errors import ProjectionUnavailable

CONNECT_TIMEOUT_S = 30.0
"""Limit for connecting in total; `connect_timeout` applies to one address, and not to the name look-up."""

# A dead TCP connection is detected within about ten seconds, on writes and reads.
_TCP = {
    "keepalives": "1",
    "keepalives_idle": "4",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "client_encoding": "UTF8",
}
_WRITER = {
    "search_path": "public",
    # The cluster evicts acknowledged events: a commit must be on PostgreSQL's disk.
    "synchronous_commit": "on",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    # A writer that freezes within a batch must not block the next leader's writer for long.
    "idle_in_transaction_session_timeout": "10s",
}
_READER = {
    "search_path": "public",
    "default_transaction_read_only": "on",
    "statement_timeout": "3s",
    # Readers keep their connections open; the server closes those that are idle for long.
    "idle_session_timeout": "5min",
}


class Database:
    """Opens connections to one database."""

    def __init__(self, parameters: Mapping[str, str], *, application: str) -> None:
        """Set the target; no connection is made.

        Args:
            parameters: libpq's keywords.
            application: Prefix of `application_name` in pg_stat_activity.
        """
        self._parameters = dict(parameters)
        self._application = application

    def __repr__(self) -> str:
        return f"Database({self.location})"

    @property
    def location(self) -> str:
        """NAME at HOST:PORT, for messages, without secrets."""
        hosts, ports = self._parameters.get("host", ""), self._parameters.get("port", "")
        addresses = ",".join(f"[{host}]" if ":" in host else host for host in hosts.split(","))
        return f"{self._parameters.get('dbname', '')} at {addresses}{':' if ports else ''}{ports}"

    async def connect_writer(self) -> Connection:
        """Open a connection for the projection, with autocommit, and READ COMMITTED in explicit transactions.

        The caller closes it.

        Raises:
            psycopg.Error: The server refused the connection.
            ProjectionUnavailable: There was no answer in time.
        """
        connection = await self._connect(f"{self._application} writer", _WRITER, target_session_attrs="read-write")
        # For the fence: an UPDATE that waited for a row lock sees the updated row (PostgreSQL manual, 13.2.1).
        await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
        return connection

    async def connect_reader(self) -> Connection:
        """Open a read-only connection with dictionary rows.

        Raises:
            psycopg.Error: The server refused the connection.
            ProjectionUnavailable: There was no answer in time.
        """
        connection = await self._connect(f"{self._application} reader", _READER)
        connection.row_factory = dict_row
        # Not prepared, so that plans use the actual parameters: listings omit the filters that are not used.
        connection.prepare_threshold = None
        return connection

    async def _connect(self, application: str, session: Mapping[str, str], **extra: str) -> Connection:
        given = self._parameters
        options = " ".join(f"-c {name}={value}" for name, value in session.items())
        keywords: dict[str, Any] = {
            "connect_timeout": "5",
            **_TCP,
            **extra,
            **given,
            "application_name": application,
            # These come last and take precedence.
            "options": f"{given.get('options', '')} {options}".strip(),
        }
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                return await psycopg.AsyncConnection.connect(autocommit=True, **keywords)
        except TimeoutError:
            raise ProjectionUnavailable(
                f"{self.location} could not be reached within {CONNECT_TIMEOUT_S:g} s"
            ) from None


def describe(error: BaseException) -> str:
    """Return an error as one line. Of a PostgreSQL error only the primary message: its details quote rows."""
    text = str(error)
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        text = f"{error.diag.message_primary} (SQLSTATE {error.sqlstate})"
    return " ".join(text.split()) or type(error).__name__
