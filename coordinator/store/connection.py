"""How the record's database is reached: libpq's keywords in, connections with our own time limits out.

The keywords come from the coordinator's `database.*` settings, which see to it that a network address means
TLS with verify-full. They may hold a password: nothing here shows them.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import psycopg
from psycopg import IsolationLevel
from psycopg.rows import dict_row

from coordinator.store.deadline import Connection
from coordinator.store.errors import ProjectionUnavailable

REACH = 30.0
"""Seconds for reaching the database over all; `connect_timeout` limits one address, and no name look-up."""

# A line that is dead is found within about ten seconds, whoever is waiting on it.
_LINE = {
    "keepalives": "1",
    "keepalives_idle": "4",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
    "client_encoding": "UTF8",
}
_WRITER = {
    "search_path": "public",
    # What was acknowledged is forgotten by the cluster: a commit must be on PostgreSQL's disk.
    "synchronous_commit": "on",
    "statement_timeout": "10s",
    "lock_timeout": "5s",
    # A writer that froze in the middle of a batch must not keep the next leader's out for long.
    "idle_in_transaction_session_timeout": "10s",
}
_READER = {
    "search_path": "public",
    "default_transaction_read_only": "on",
    "statement_timeout": "3s",
    # Readers keep their connections open; the server ends those that nobody has used.
    "idle_session_timeout": "5min",
}


class Database:
    """Opens connections to one database."""

    def __init__(self, parameters: Mapping[str, str], *, application: str) -> None:
        """parameters: libpq's keywords; application: our name in PostgreSQL's list of sessions."""
        self._parameters = dict(parameters)
        self._application = application

    def __repr__(self) -> str:
        return f"Database({self.place})"

    @property
    def place(self) -> str:
        """Where it is, for messages: NAME at HOST:PORT, without secrets."""
        hosts, ports = self._parameters.get("host", ""), self._parameters.get("port", "")
        places = ",".join(f"[{host}]" if ":" in host else host for host in hosts.split(","))
        return f"{self._parameters.get('dbname', '')} at {places}{':' if ports else ''}{ports}"

    async def connect_writer(self) -> Connection:
        """A connection for the projection: autocommit, and READ COMMITTED in each explicit transaction.

        Raises psycopg.Error or ProjectionUnavailable. The caller closes it.
        """
        connection = await self._connect(f"{self._application} writer", _WRITER, target_session_attrs="read-write")
        # The fence relies on it: an UPDATE that waited for a row sees what the row has become.
        await connection.set_isolation_level(IsolationLevel.READ_COMMITTED)
        return connection

    async def connect_reader(self) -> Connection:
        """A read-only connection with dictionary rows. Raises psycopg.Error or ProjectionUnavailable."""
        connection = await self._connect(f"{self._application} reader", _READER)
        connection.row_factory = dict_row
        # Planned with the parameters at hand: listings leave out the filters that are not used.
        connection.prepare_threshold = None
        return connection

    async def _connect(self, application: str, session: Mapping[str, str], **extra: str) -> Connection:
        given = self._parameters
        options = " ".join(f"-c {name}={value}" for name, value in session.items())
        keywords: dict[str, Any] = {
            "connect_timeout": "5",
            **_LINE,
            **extra,
            **given,
            "application_name": application,
            # Ours come last and win.
            "options": f"{given.get('options', '')} {options}".strip(),
        }
        try:
            async with asyncio.timeout(REACH):
                return await psycopg.AsyncConnection.connect(autocommit=True, **keywords)
        except TimeoutError:
            raise ProjectionUnavailable(f"{self.place} could not be reached within {REACH:g} s") from None


def describe(error: BaseException) -> str:
    """An error in one line. Of what PostgreSQL says only the message: its details quote rows."""
    text = str(error)
    if isinstance(error, psycopg.Error) and error.diag.message_primary:
        text = f"{error.diag.message_primary} (SQLSTATE {error.sqlstate})"
    return " ".join(text.split()) or type(error).__name__
