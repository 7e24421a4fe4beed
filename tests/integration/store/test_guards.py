"""The guards in the tables themselves, for whoever does not come through the room's code.

One database for all tests of this file: what is refused leaves no trace, and the rest is rolled back.
"""

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from coordinator.state.machine import State
from coordinator.store import Database
from coordinator.store.batch import collapse
from coordinator.store.projection import ProjectionWriter
from tests.integration.postgres import Databases, PostgresServer
from tests.unit.store.histories import SETTING, one_completed, play, revoke, submit

REFUSED = psycopg.errors.InsufficientPrivilege
KEPT = psycopg.errors.IntegrityConstraintViolation


@pytest.fixture(scope="module")
def session(postgres: PostgresServer, databases: Databases, template: str) -> Iterator[Connection[Any]]:
    """A session of the database's owner. The leader of term 3 has recorded a finished task and a waiting one."""
    name = databases.create(template)
    keywords: dict[str, Any] = dict(postgres.parameters(name))

    async def record() -> None:
        async with await Database(postgres.parameters(name), application="test").connect_writer() as connection:
            projection = ProjectionWriter(connection, 3)
            await projection.begin()
            events = play(State(), [*SETTING, *one_completed("done"), submit("waiting"), revoke("b0b")], term=3)
            await projection.write(collapse(events, 0), 0)

    asyncio.run(record())
    with psycopg.connect(autocommit=True, **keywords) as connection:
        yield connection
    databases.drop(name)


def _run(session: Connection[Any], statement: str, term: str | None) -> int:
    """Run a statement in a transaction of that term, and roll it back; how many rows it touched."""
    with session.transaction(force_rollback=True):
        if term is not None:
            session.execute("SELECT set_config('zkp.term', %s, true)", [term])
        return session.execute(statement.encode()).rowcount


WRITES = {
    "update tasks": "UPDATE tasks SET retries = 1 WHERE id = 'waiting'",
    "insert tasks": """
        INSERT INTO tasks (id, submitter, circuit, public_inputs, verifying_key_sha256, max_retries, state, attempt,
            retries, term, created_at, revision)
        SELECT 'copy', submitter, circuit, public_inputs, verifying_key_sha256, max_retries, state, attempt,
            retries, term, created_at, revision
        FROM tasks WHERE id = 'waiting'""",
    "update attempts": "UPDATE attempts SET error_code = 'x'",
    "update workers": "UPDATE workers SET state = 'online'",
    "insert circuits": "INSERT INTO circuits SELECT 'copy', 'key', registered_at, revision FROM circuits LIMIT 1",
    "insert revocations": """
        INSERT INTO revocations (serial, revoked_at, not_after, revision)
        SELECT 'c0de', revoked_at, not_after, revision FROM revocations""",
    "update projection": "UPDATE projection SET revision = revision + 1",
}


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("term", [None, "", "2", "4", "no number"])
def test_a_write_past_the_code_is_refused(session: Connection[Any], write: str, term: str | None) -> None:
    """A transaction that names no term, an earlier or a later one, or nonsense, is stopped by a trigger."""
    with pytest.raises((REFUSED, psycopg.errors.InvalidTextRepresentation)):
        _run(session, WRITES[write], term)


@pytest.mark.parametrize("write", WRITES)
def test_the_writer_s_own_transactions_pass(session: Connection[Any], write: str) -> None:
    """The very same statements are let through in the projection's term: it is the term that was refused."""
    assert _run(session, WRITES[write], "3") > 0


def test_a_refusal_says_who_may_write(session: Connection[Any]) -> None:
    """For the log of whoever tried."""
    with pytest.raises(REFUSED, match="the writer is the leader of term 3, and this transaction is of term 2"):
        _run(session, WRITES["update tasks"], "2")
    with pytest.raises(REFUSED, match="this transaction is of term none"):
        _run(session, WRITES["update tasks"], None)


def test_a_table_of_the_same_name_cannot_stand_in_for_the_projection(session: Connection[Any]) -> None:
    """The triggers look at one table, whatever the session's search path finds first."""
    session.execute("CREATE TEMPORARY TABLE projection AS SELECT 99::bigint AS term")
    try:
        with pytest.raises(REFUSED):
            _run(session, WRITES["update tasks"], "99")
    finally:
        session.execute("DROP TABLE pg_temp.projection")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tasks SET state = 'pending', proof = NULL, finished_at = NULL WHERE id = 'done'",
        "UPDATE tasks SET proof = 'another proof' WHERE id = 'done'",
        "UPDATE tasks SET proof = '' WHERE id = 'done'",
        "UPDATE tasks SET worker_id = 'worker-2' WHERE id = 'done'",
        "UPDATE tasks SET attempt = 2 WHERE id = 'done'",
        "UPDATE tasks SET public_inputs = '{9}' WHERE id = 'done'",
        "UPDATE tasks SET circuit = 'range_proof' WHERE id = 'done'",
        "UPDATE tasks SET id = 'else' WHERE id = 'done'",
        "UPDATE attempts SET state = 'lost' WHERE task_id = 'done'",
        "UPDATE attempts SET worker_id = 'worker-2' WHERE task_id = 'done'",
        "UPDATE attempts SET task_id = 'waiting' WHERE task_id = 'done'",
        "UPDATE circuits SET verifying_key_sha256 = 'another key'",
        "UPDATE revocations SET serial = 'c0de'",
    ],
)
def test_what_is_final_does_not_change_even_for_the_writer(session: Connection[Any], statement: str) -> None:
    """A result that was accepted stays the one, and a circuit keeps its key."""
    with pytest.raises(KEPT, match="what is final does not change"):
        _run(session, statement, "3")


def test_a_second_accepted_result_cannot_be_recorded(session: Connection[Any]) -> None:
    """Not even beside the first, as another attempt."""
    second = """
        INSERT INTO attempts
        SELECT task_id, 2, 'worker-2', term, state, error_code, error_message, assigned_at, started_at, ended_at,
            revision
        FROM attempts WHERE task_id = 'done'"""

    with pytest.raises(psycopg.errors.UniqueViolation, match="attempts_accepted"):
        _run(session, second, "3")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tasks SET state = 'completed', finished_at = now() WHERE id = 'waiting'",
        "UPDATE tasks SET state = 'failed' WHERE id = 'waiting'",
        "UPDATE tasks SET proof = 'early' WHERE id = 'waiting'",
        "UPDATE tasks SET state = 'assigned' WHERE id = 'waiting'",
        "UPDATE tasks SET state = 'lost' WHERE id = 'waiting'",
        "UPDATE workers SET state = 'asleep'",
    ],
)
def test_rows_that_make_no_sense_are_refused(session: Connection[Any], statement: str) -> None:
    """Completed without a proof, ended without an end, proved without being completed, in an unknown state."""
    with pytest.raises(psycopg.errors.CheckViolation):
        _run(session, statement, "3")


@pytest.mark.parametrize("table", ["tasks", "attempts", "workers", "circuits", "revocations", "projection"])
@pytest.mark.parametrize("removal", ["DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_nothing_is_removed(session: Connection[Any], table: str, removal: str) -> None:
    """A row that could be deleted could be written again with another result."""
    with pytest.raises(REFUSED, match="the record keeps what it holds"):
        _run(session, removal.format(table), "3")


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        ("UPDATE projection SET revision = revision - 1", KEPT),
        ("UPDATE projection SET term = 2", REFUSED),
        ("UPDATE projection SET term = 4", REFUSED),
        ("INSERT INTO projection VALUES (false, 9, 0, NULL)", REFUSED),
    ],
)
def test_the_projection_never_goes_back(
    session: Connection[Any], statement: str, refusal: type[psycopg.Error]
) -> None:
    """Its term changes into the writer's own alone, and neither number falls."""
    with pytest.raises(refusal):
        _run(session, statement, "3")


def test_a_term_does_not_go_back_even_into_the_writer_s_own(session: Connection[Any]) -> None:
    """An earlier leader that names its own term still finds a later one."""
    with pytest.raises(KEPT, match="from term 3"):
        _run(session, "UPDATE projection SET term = 2", "2")
