"""Reading tasks from the record, and from memory while it is away."""

from typing import Any

import pytest

from coordinator.errors import InvalidRequest, Unavailable
from coordinator.services.task_reader import TaskReader
from coordinator.state.commands import Cancel
from coordinator.state.model import Task, TaskState
from coordinator.store import PageTokenError, ProjectionUnavailable
from coordinator.store.projection_reader import ProjectedTasks
from tests.unit.coordinator.fakes import LocalReplicator, leader, submit


class StoreDouble:
    """What `coordinator.store.Record` offers; answers with `answer`, or raises it."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    async def get_task(self, task_id: str) -> Any:
        return self._give()

    async def list_tasks(self, *_: object) -> Any:
        return self._give()

    def _give(self) -> object:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


def reading(answer: object, replicator: LocalReplicator | None = None) -> TaskReader:
    double: Any = StoreDouble(answer)
    replicator = replicator or leader()
    return TaskReader(double, lambda: replicator.state)


async def test_what_the_record_holds_is_passed_on() -> None:
    """Tasks and pages as they are."""
    task = submit(leader(), "t")
    assert await reading(task).task("t") == task
    listing = await reading(ProjectedTasks((task,), "next")).page(None, None, 10, "")
    assert (listing.tasks, listing.next_token) == ((task,), "next")


async def test_a_record_that_is_away_is_said_to_be() -> None:
    """Not "no such task"; and the reason stays in the log, not with the caller."""
    with pytest.raises(Unavailable, match="PostgreSQL is away") as refused:
        await reading(ProjectionUnavailable("secret-host refused")).task("t")
    assert "secret-host" not in str(refused.value)


async def test_a_wrong_page_token_is_the_callers_mistake() -> None:
    """It is named as such, from the record and from memory."""
    with pytest.raises(InvalidRequest, match="page_token: is not one"):
        await reading(PageTokenError("page_token: is not one that a listing gave")).page(None, None, 10, "x")
    with pytest.raises(InvalidRequest, match="page_token"):
        await reading(ProjectionUnavailable("away")).page(None, None, 10, "x")


async def pages(
    record: TaskReader, size: int, state: TaskState | None = None, circuit: str | None = None
) -> list[Task]:
    found: list[Task] = []
    token = ""
    while True:
        listing = await record.page(state, circuit, size, token)
        assert len(listing.tasks) <= size
        found += listing.tasks
        token = listing.next_token
        if not token:
            return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
async def test_memory_is_listed_newest_first_and_whole_while_the_record_is_away(size: int) -> None:
    """Paging through it loses and repeats nothing, also where tasks came in the same millisecond."""
    replicator = leader()
    for number in range(12):
        submit(replicator, f"t{number}")
        if number % 3:
            replicator.now_ms -= 1  # the next one comes in the same millisecond
    found = await pages(reading(ProjectionUnavailable("away"), replicator), size)
    expected = sorted(replicator.state.tasks.values(), key=lambda task: (task.created_ms, task.id), reverse=True)
    assert found == expected


async def test_memory_is_filtered_as_the_record_is() -> None:
    """By state and by circuit."""
    replicator = leader()
    for number in range(6):
        submit(replicator, f"t{number}", "addition" if number % 2 else "range_proof")
    replicator.apply(Cancel("t5"))
    record = reading(ProjectionUnavailable("away"), replicator)
    found = await pages(record, 1, TaskState.PENDING, "addition")
    assert [task.id for task in found] == ["t3", "t1"]


async def test_a_token_is_good_for_its_own_filters_only() -> None:
    """As the record has it."""
    replicator = leader()
    for number in range(3):
        submit(replicator, f"t{number}")
    record = reading(ProjectionUnavailable("away"), replicator)
    token = (await record.page(None, None, 1, "")).next_token
    with pytest.raises(InvalidRequest, match="other filters"):
        await record.page(TaskState.FAILED, None, 1, token)
