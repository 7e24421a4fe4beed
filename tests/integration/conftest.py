"""Fixtures that any integration test may use: a PostgreSQL, databases on it, proving keys; and the order of tests."""

import asyncio
import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest

from coordinator.store.migrate import load_migrations, migrate
from tests.integration.postgres import Databases, EmbeddedServer, PostgresServer
from zkp.localcluster.setup import make_keys

SLOWEST = (
    "raft_process/test_operations",
    "monitoring/test_breakages",
    "monitoring/test_notifications",
    "rotation/test_rotation",
    "local/test_demo",
    "cluster/test_failover",
    "raft_process/test_drills",
    "local/test_cluster",
    "deploy/test_preflight",
)
"""Modules that begin first, so that none of them is left alone at the end of a run side by side."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the slowest modules first; the order within a module stays."""
    place = {name: number for number, name in enumerate(SLOWEST)}

    def rank(item: pytest.Item) -> int:
        return place.get(f"{item.path.parent.name}/{item.path.stem}", len(SLOWEST))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with development keys of every circuit; not to be changed.

    Processes that run tests side by side share it.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with (root / "keys.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make_keys(root / "keys", lambda _: None)
    return root / "keys"


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
