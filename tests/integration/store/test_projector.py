"""The leader's loop on a real database: exactly once through crashes, outages and depositions."""

import asyncio
import logging

import pytest

from coordinator.state.commands import Projected
from coordinator.state.machine import State
from coordinator.state.model import TaskState
from coordinator.store import (
    Database,
    DatabaseSchemaError,
    Fenced,
    ProjectionAhead,
    ProjectionBehind,
    ProjectionForeign,
    ProjectionReader,
    projector,
)
from coordinator.store.batch import collapse
from coordinator.store.projection import ProjectionWriter
from tests.integration.postgres import PostgresServer, away, frozen
from tests.integration.store.scenario import Node, until
from tests.unit.store.histories import SETTING, one_completed, play, submit


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits: the tests are about order, not about patience."""
    monkeypatch.setattr(projector, "MAX_BACKOFF_S", 0.3)
    monkeypatch.setattr(projector, "ACK_INTERVAL_S", 0.02)
    monkeypatch.setattr(projector, "ACK_RETRY_S", 0.02)


async def _revision(database: Database) -> int:
    record = ProjectionReader(database, 1)
    summary = await record.summary()
    await record.close()
    return summary.revision


async def test_an_empty_database_becomes_the_record(empty_database: dict[str, str]) -> None:
    """Tables, rows, acknowledgment, and what comes in later."""
    database = Database(empty_database, application="test")
    node = Node(database)
    node.apply([*SETTING, *one_completed("task-1")])
    async with node.leading():
        await node.recorded()
        assert (node.projector.status, node.projector.last_error) == ("ok", "")
        node.apply([submit("task-2")])
        await node.recorded()

    record = ProjectionReader(database, 1)
    summary = await record.summary()
    await record.close()
    assert summary.revision == node.state.revision == node.acknowledged[-1]
    assert (summary.counts[TaskState.PENDING], summary.accepted_once) == (1, 1)
    assert not node.state.outbox


async def test_what_was_written_before_a_crash_is_acknowledged_and_not_written_again(
    record_database: Database,
) -> None:
    """A leader died between its write and its acknowledgment; the next one goes on from the record."""
    node = Node(record_database)
    node.apply([*SETTING, *one_completed("task-1"), submit("task-2")])
    async with await record_database.connect_writer() as connection:
        dead = ProjectionWriter(connection, 1)
        await dead.begin()
        await dead.write(collapse(list(node.state.outbox)[:7], 0), 0)

    async with node.leading(term=2):
        await node.recorded()

    assert await _revision(record_database) == node.state.revision


async def test_an_acknowledgment_that_fails_is_made_again(record_database: Database) -> None:
    """Replication may refuse it for a while; the record goes on meanwhile."""
    node = Node(record_database)
    refusals = iter([ConnectionError("no quorum"), TimeoutError()])

    async def acknowledge(revision: int) -> None:
        for refusal in refusals:
            raise refusal
        node.apply([Projected(revision, 0)])

    node.projector = projector.Projector(record_database, node.outbox, acknowledge)
    node.apply(SETTING)
    async with node.leading():
        await node.recorded()

    assert next(refusals, None) is None


async def test_postgresql_may_go_away_and_come_back(record_database: Database, postgres: PostgresServer) -> None:
    """What happens meanwhile waits, the status says so, and all of it is recorded afterwards."""
    node = Node(record_database)
    node.apply(SETTING)
    async with node.leading():
        await node.recorded()
        with away(postgres):
            node.apply(one_completed("task-1"))
            await until(lambda: node.projector.status == "degraded")
            assert node.projector.lag == 4
            assert node.projector.last_error
            node.apply([submit("task-2")])
        await node.recorded()
        assert (node.projector.status, node.projector.last_error) == ("ok", "")

    assert await _revision(record_database) == node.state.revision


async def test_an_outage_is_noticed_while_there_is_nothing_to_write(
    record_database: Database, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The idle connection is checked, so that health reports are true."""
    monkeypatch.setattr(projector, "IDLE_CHECK_S", 0.05)
    node = Node(record_database)
    node.apply(SETTING)
    async with node.leading():
        await until(lambda: node.projector.status == "ok")
        with away(postgres):
            await until(lambda: node.projector.status == "degraded")
        await until(lambda: node.projector.status == "ok")


async def test_a_postgresql_that_hangs_is_noticed(
    record_database: Database, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's own time limits do not help when the server is frozen."""
    monkeypatch.setattr(projector, "STATEMENT_TIMEOUT_S", 0.3)
    node = Node(record_database)
    node.apply(SETTING)
    async with node.leading():
        await node.recorded()
        with frozen(postgres):
            node.apply(one_completed("task-1"))
            await until(lambda: node.projector.status == "degraded")
            assert "did not respond within 0.3 s" in node.projector.last_error
        monkeypatch.setattr(projector, "STATEMENT_TIMEOUT_S", 15.0)
        await node.recorded()

    assert await _revision(record_database) == node.state.revision


async def test_deposition_does_not_wait_for_a_postgresql_that_hangs(
    record_database: Database, postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Cancelled in the middle of a write, the loop ends while the server is still frozen, and asks it for nothing."""
    node = Node(record_database)
    node.apply(SETTING)
    async with node.leading() as running:
        await node.recorded()
        with frozen(postgres):
            node.apply(one_completed("task-1"))
            await asyncio.sleep(0.05)
            running.cancel()
            await asyncio.wait({running})
            assert running.cancelled()
    assert node.projector.status == "stopped"
    assert "query cancellation failed" not in caplog.text

    # The new leader finds out what became of that write.
    async with node.leading(term=2):
        await node.recorded()
    assert await _revision(record_database) == node.state.revision


async def test_a_leader_that_does_not_know_it_was_deposed_is_stopped_by_the_record(
    record_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """Its next write is refused and it ends; what it wanted to write is not there."""
    node = Node(record_database)
    node.apply(SETTING)
    async with node.leading(term=1) as running:
        await node.recorded()
        async with await record_database.connect_writer() as connection:
            await ProjectionWriter(connection, 2).begin()
        node.apply([submit("too-late")])
        with pytest.raises(Fenced, match="no longer the writer"):
            await running

    assert node.projector.status == "stopped"
    assert "no longer the writer" in node.projector.last_error
    assert await _revision(record_database) == 5
    assert not [line for line in caplog.records if line.levelno >= logging.CRITICAL]


async def test_an_idle_leader_that_was_deposed_finds_out(
    record_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with nothing to write."""
    monkeypatch.setattr(projector, "IDLE_CHECK_S", 0.05)
    node = Node(record_database)
    node.apply(SETTING)
    async with node.leading(term=1) as running:
        await node.recorded()
        async with await record_database.connect_writer() as connection:
            await ProjectionWriter(connection, 2).begin()
        with pytest.raises(Fenced):
            await running


async def _recorded_by_another(database: Database, state: State) -> None:
    async with await database.connect_writer() as connection:
        projection = ProjectionWriter(connection, 1)
        await projection.begin()
        await projection.write(collapse(list(state.outbox), 0), 0)


@pytest.mark.parametrize(
    ("refusal", "recorded", "known"),
    [
        pytest.param(ProjectionBehind, 3, 5, id="the record was set back"),
        pytest.param(ProjectionAhead, 7, 0, id="the cluster was wiped"),
        pytest.param(ProjectionForeign, 5, 0, id="the database is another cluster's"),
    ],
)
async def test_a_record_that_does_not_fit_is_left_alone(
    record_database: Database,
    caplog: pytest.LogCaptureFixture,
    refusal: type[Exception],
    recorded: int,
    known: int,
) -> None:
    """Critical, with the reason; not a row is written, and the term stays what it was."""
    other = State()
    play(other, [*SETTING, *one_completed("task-1")][:recorded])
    if refusal is ProjectionForeign:
        other = State()
        other.clock_ms = 1
        play(other, list(reversed(SETTING)))
    await _recorded_by_another(record_database, other)
    node = Node(record_database)
    node.apply(SETTING)
    node.apply([Projected(known, 0)])

    with pytest.raises(refusal) as refused:
        await node.projector.run(9)

    assert (node.projector.status, node.projector.last_error) == ("stopped", str(refused.value))
    assert [line.levelname for line in caplog.records if line.levelno >= logging.CRITICAL] == ["CRITICAL"]
    async with await record_database.connect_writer() as connection:
        position = await ProjectionWriter(connection, 9).position()
    assert position is not None
    assert (position.term, position.revision) == (1, other.revision)


async def test_tables_of_a_newer_release_are_left_alone(record_database: Database) -> None:
    """An old release that becomes leader does not write into them."""
    async with await record_database.connect_writer() as connection:
        await connection.execute("INSERT INTO schema_migrations VALUES (9999, 'future', 'x')")
    node = Node(record_database)
    node.apply(SETTING)

    with pytest.raises(DatabaseSchemaError, match="run the newer release"):
        await node.projector.run(1)
    assert await _revision(record_database) == 0


async def test_what_postgresql_refuses_is_tried_again_until_an_operator_has_helped(
    record_database: Database,
) -> None:
    """No rights, no disk, a constraint: the loop reports it and goes on by itself once it is put right."""
    node = Node(record_database)
    node.apply(SETTING)
    async with await record_database.connect_writer() as connection:
        await connection.execute("ALTER TABLE workers ADD CONSTRAINT none CHECK (false)")
        async with node.leading():
            await until(lambda: node.projector.status == "degraded")
            assert "none" in node.projector.last_error
            assert "23514" in node.projector.last_error
            await connection.execute("ALTER TABLE workers DROP CONSTRAINT none")
            await node.recorded()
            assert node.projector.status == "ok"


async def test_a_backlog_is_written_in_batches_and_in_order(
    record_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catching up is visible until less than a batch is left."""
    monkeypatch.setattr(projector, "MAX_BATCH_EVENTS", 50)
    node = Node(record_database)
    node.apply([*SETTING, *(submit(f"task-{number}") for number in range(395))])
    async with node.leading():
        await until(lambda: node.projector.status == "catching_up")
        await node.recorded()
        assert node.projector.status == "ok"

    assert await _revision(record_database) == 400
    assert node.acknowledged == sorted(node.acknowledged)


async def test_an_id_that_is_used_again_is_counted_and_logged(
    record_database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    """The record keeps the finished task, and the loop goes on."""
    node = Node(record_database)
    node.apply([*SETTING, *one_completed("task-1")])
    async with node.leading():
        await node.recorded()
        node.apply([Projected(node.state.revision, node.state.revision)])
        assert "task-1" not in node.state.tasks
        node.apply([submit("task-1"), submit("task-2")])
        await node.recorded()

    assert node.projector.skipped == 1
    assert [line.__dict__["task_id"] for line in caplog.records if line.levelno == logging.ERROR] == ["task-1"]


async def test_a_wrong_password_is_not_repeated_in_logs_or_errors(caplog: pytest.LogCaptureFixture) -> None:
    """Wherever the connection fails."""
    parameters = {"host": "127.0.0.1", "port": "1", "user": "zkp", "dbname": "zkp", "password": "hunter2"}
    node = Node(Database(parameters, application="test"))
    with caplog.at_level(logging.DEBUG):
        async with node.leading():
            await until(lambda: node.projector.status == "degraded")

    assert "127.0.0.1" in node.projector.last_error
    assert "hunter2" not in node.projector.last_error + caplog.text
    assert not any("hunter2" in str(line.__dict__) for line in caplog.records)
