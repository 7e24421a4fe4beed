"""Reading the record."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from coordinator.state.commands import Cancel
from coordinator.state.machine import State
from coordinator.state.model import TaskState
from coordinator.store import Database, PageTokenError, ProjectionReader, ProjectionUnavailable, connections
from coordinator.store.batch import collapse
from coordinator.store.projection import ProjectionWriter
from tests.integration.postgres import PostgresServer, away, frozen
from tests.unit.store.histories import EPOCH_MS, SETTING, one_completed, play, submit


@pytest.fixture
def state() -> State:
    """Nine tasks, every third of them cancelled, in three groups that were created in the same millisecond."""
    state = State()
    play(state, SETTING)
    for number in range(9):
        circuit = "addition" if number % 2 else "range_proof"
        # Ids in no order, so that age and name disagree.
        state.apply(submit(f"task-{(number * 4) % 9}", circuit), EPOCH_MS + 1000 + number // 3, 1)
    play(state, [Cancel(f"task-{number}") for number in (0, 3, 6)])
    return state


@pytest.fixture
async def record(record_database: Database, state: State) -> AsyncIterator[ProjectionReader]:
    """A record of that state."""
    async with await record_database.connect_writer() as connection:
        projection = ProjectionWriter(connection, 1)
        await projection.begin()
        await projection.write(collapse(list(state.outbox), 0), 0)
    record = ProjectionReader(record_database, 2)
    yield record
    await record.close()


async def _ids(
    record: ProjectionReader, size: int, state: TaskState | None = None, circuit: str | None = None
) -> list[str]:
    """All pages of a listing, one after the other."""
    ids: list[str] = []
    token = ""
    while True:
        page = await record.list_tasks(state, circuit, size, token)
        assert 1 <= len(page.tasks) <= size
        ids += [task.id for task in page.tasks]
        token = page.next_token
        if not token:
            return ids


@pytest.mark.parametrize("size", [1, 2, 3, 9, 100])
async def test_pages_add_up_to_every_task_newest_first(record: ProjectionReader, state: State, size: int) -> None:
    """Each comes once, also where several were created in the same millisecond."""
    expected = sorted(state.tasks.values(), key=lambda task: (task.created_ms, task.id), reverse=True)

    assert await _ids(record, size) == [task.id for task in expected]


async def test_listings_can_be_filtered(record: ProjectionReader, state: State) -> None:
    """By state, by circuit, and by both."""
    cancelled = {"task-0", "task-3", "task-6"}
    addition = {task.id for task in state.tasks.values() if task.circuit == "addition"}

    assert set(await _ids(record, 2, TaskState.CANCELLED)) == cancelled
    assert set(await _ids(record, 2, None, "addition")) == addition
    assert set(await _ids(record, 1, TaskState.CANCELLED, "addition")) == cancelled & addition
    assert (await record.list_tasks(TaskState.FAILED, None, 10, "")).tasks == ()
    assert (await record.list_tasks(None, "no such \0 circuit", 10, "")).tasks == ()


async def test_a_task_that_comes_in_meanwhile_moves_none_to_another_page(
    record: ProjectionReader, record_database: Database, state: State
) -> None:
    """Pages continue from a place, not from a count."""
    first = await record.list_tasks(None, None, 4, "")
    async with await record_database.connect_writer() as connection:
        before = state.revision
        batch = collapse(play(state, [submit("newer")]), before)
        await ProjectionWriter(connection, 1).write(batch, before)

    second = await record.list_tasks(None, None, 100, first.next_token)

    assert {task.id for task in [*first.tasks, *second.tasks]} == set(state.tasks) - {"newer"}
    assert len(first.tasks) + len(second.tasks) == 9


async def test_bad_paging_is_refused(record: ProjectionReader) -> None:
    """A token of another listing, no token at all, or a size out of bounds."""
    token = (await record.list_tasks(None, None, 4, "")).next_token

    with pytest.raises(PageTokenError, match="other filters"):
        await record.list_tasks(TaskState.PENDING, None, 4, token)
    with pytest.raises(PageTokenError, match="page_token: invalid"):
        await record.list_tasks(None, None, 4, token + "x")
    with pytest.raises(ValueError, match="page_size"):
        await record.list_tasks(None, None, 0, "")


async def test_what_is_not_there_is_none(record: ProjectionReader) -> None:
    """Whatever the id looks like."""
    assert await record.get_task("unknown") is None
    assert await record.get_task("nul \0 and \ud800") is None
    assert await record.get_attempts("unknown") == ()


async def test_the_summary_counts_tasks_and_accepted_results(
    record: ProjectionReader, record_database: Database, state: State
) -> None:
    """Completed tasks have exactly one accepted result each."""
    before = state.revision
    async with await record_database.connect_writer() as connection:
        events = play(state, [*one_completed("done-1"), *one_completed("done-2")])
        await ProjectionWriter(connection, 1).write(collapse(events, before), before)

    summary = await record.summary()

    assert (summary.term, summary.revision) == (1, state.revision)
    assert summary.counts == state.counts
    assert summary.accepted_once == summary.counts[TaskState.COMPLETED] == 2


async def test_before_a_leader_has_made_the_tables_the_record_is_unavailable(empty_database: dict[str, str]) -> None:
    """The message says what it waits for."""
    record = ProjectionReader(Database(empty_database, application="test"), 2)

    with pytest.raises(ProjectionUnavailable, match="no tables yet: a leader creates them"):
        await record.get_task("task-1")
    await record.close()


async def test_a_restart_of_postgresql_is_not_seen_by_readers(
    record: ProjectionReader, postgres: PostgresServer
) -> None:
    """Connections that were cut while they were idle are replaced; while it is away, reads fail with the reason."""
    await asyncio.gather(record.get_task("task-1"), record.get_task("task-2"))
    with away(postgres), pytest.raises(ProjectionUnavailable, match="connection"):
        await record.get_task("task-1")
    await asyncio.gather(record.get_task("task-1"), record.get_task("task-2"))
    with away(postgres):
        pass

    found = await asyncio.gather(*(record.get_task(f"task-{number}") for number in range(9)))

    assert None not in found


async def test_a_server_that_hangs_is_given_up(
    record: ProjectionReader, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a connection that is open already; and reading goes on when it answers again."""
    monkeypatch.setattr(connections, "STATEMENT_TIMEOUT_S", 0.2)
    await record.get_task("task-1")
    with frozen(postgres), pytest.raises(ProjectionUnavailable, match="did not respond within"):
        await record.get_task("task-1")

    monkeypatch.undo()
    assert await record.get_task("task-1") is not None


async def test_a_reader_that_is_cancelled_leaves_its_place_to_others(
    record: ProjectionReader, postgres: PostgresServer
) -> None:
    """Its connection is dropped, and as many can read as before."""
    await record.get_task("task-1")
    with frozen(postgres):
        reading = asyncio.ensure_future(record.get_task("task-1"))
        await asyncio.sleep(0.05)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading

    found = await asyncio.gather(*(record.get_task("task-1") for _ in range(4)))
    assert None not in found


async def test_readers_wait_for_each_other_but_not_for_ever(
    record: ProjectionReader, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every connection stuck, one more reader is told so."""
    monkeypatch.setattr(connections, "POOL_TIMEOUT_S", 0.1)
    await asyncio.gather(record.get_task("task-1"), record.get_task("task-2"))
    with frozen(postgres):
        stuck = [asyncio.ensure_future(record.get_task("task-1")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(ProjectionUnavailable, match="all 2 connections for reading are busy"):
            await record.get_task("task-1")
        for reading in stuck:
            reading.cancel()
        await asyncio.wait(stuck)


async def test_readers_cannot_write(record_database: Database) -> None:
    """Their sessions are read-only."""
    async with await record_database.connect_reader() as connection:
        with pytest.raises(Exception, match="read-only transaction"):
            await connection.execute("CREATE TABLE mine ()")
