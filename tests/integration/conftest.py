"""Fixtures that any integration test may use: a PostgreSQL, and databases on it."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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


# A folder may put another `postgres` in the place of this one. What is made of it is therefore not kept by the
# session, which would go on using the first server, but by the server.
@pytest.fixture(scope="module")
def databases(postgres: PostgresServer) -> Databases:
    """Makes databases on that server."""
    return Databases(postgres)


@pytest.fixture(scope="module")
def template(postgres: PostgresServer, databases: Databases) -> str:
    """The name of a database with the record's tables, to be cloned; made once for each server."""
    if not postgres.template:
        postgres.template = databases.create()
        keywords: dict[str, Any] = dict(postgres.parameters(postgres.template))
        with ThreadPoolExecutor(1) as elsewhere:  # the test may have an event loop of its own
            elsewhere.submit(asyncio.run, _make_tables(keywords)).result()
    return postgres.template


async def _make_tables(keywords: dict[str, Any]) -> None:
    async with await psycopg.AsyncConnection.connect(autocommit=True, **keywords) as connection:
        await migrate(connection, 0, load_migrations())


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
