"""Fixtures that any integration test may use: a PostgreSQL, and databases on it."""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from coordinator.store.migrate import load_migrations, migrate
from tests.integration.postgres import Databases, EmbeddedServer, PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A running PostgreSQL, reached over its Unix socket."""
    server = EmbeddedServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def databases(postgres: PostgresServer) -> Databases:
    """Makes databases on that server."""
    return Databases(postgres)


@pytest.fixture(scope="session")
def template(postgres: PostgresServer, databases: Databases) -> str:
    """The name of a database with the record's tables, to be cloned."""
    name = databases.create()

    async def make_tables() -> None:
        keywords: dict[str, Any] = dict(postgres.parameters(name))
        async with await psycopg.AsyncConnection.connect(autocommit=True, **keywords) as connection:
            await migrate(connection, 0, load_migrations())

    asyncio.run(make_tables())
    return name


@pytest.fixture
def empty_database(postgres: PostgresServer, databases: Databases) -> Iterator[dict[str, str]]:
    """libpq's keywords of a new database without tables, as its superuser."""
    name = databases.create()
    yield postgres.parameters(name)
    databases.drop(name)


@pytest.fixture
def database(postgres: PostgresServer, databases: Databases, template: str) -> Iterator[dict[str, str]]:
    """libpq's keywords of a new database with the record's tables, as its superuser; nobody has written to it."""
    name = databases.create(template)
    yield postgres.parameters(name)
    databases.drop(name)
