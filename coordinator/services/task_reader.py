"""Task reads: PostgreSQL first, in-memory state while it is unavailable."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from itertools import groupby, islice
from typing import TypeVar

from coordinator.errors import InvalidRequest, Unavailable
from coordinator.services.tasks import TaskListing
from coordinator.state.machine import State
from coordinator.state.model import Task, TaskState
from coordinator.store import PageTokenError, ProjectionReader, ProjectionUnavailable
from coordinator.store.paging import Cursor, decode_token, encode_token

log = logging.getLogger("zkp.coordinator")

_READ_TIMEOUT_S = 2.0  # a caller with a timeout of 5 s still gets the tasks in memory

Answer = TypeVar("Answer")


class TaskReader:
    """Reads of tasks. `state` returns this node's present replica."""

    def __init__(self, record: ProjectionReader, state: Callable[[], State]) -> None:
        self._record = record
        self._state = state

    async def task(self, task_id: str) -> Task | None:
        """Return a task that is not in memory, or None. Raises Unavailable while PostgreSQL is unavailable."""
        try:
            return await _with_timeout(self._record.get_task(task_id))
        except ProjectionUnavailable as error:
            log.debug("projection not read: %s", error, extra={"task_id": task_id})
            raise Unavailable(f"task {task_id} is not in memory, and PostgreSQL is away: ask again later") from None

    async def page(self, state: TaskState | None, circuit: str | None, size: int, token: str) -> TaskListing:
        """Return one page from the projection or from memory; the page tokens of both are interchangeable."""
        try:
            page = await _with_timeout(self._record.list_tasks(state, circuit, size, token))
        except PageTokenError as error:
            raise InvalidRequest("page_token", str(error).removeprefix("page_token: ")) from None
        except ProjectionUnavailable as error:
            log.debug("projection not read, listing tasks in memory: %s", error)
            return self._page_from_memory(state, circuit, size, token)
        return TaskListing(page.tasks, page.next_token)

    def _page_from_memory(self, state: TaskState | None, circuit: str | None, size: int, token: str) -> TaskListing:
        filters = (state or "", circuit or "")
        try:
            cursor = decode_token(token, filters) if token else None
        except PageTokenError as error:
            raise InvalidRequest("page_token", str(error).removeprefix("page_token: ")) from None
        wanted = (
            task
            for task in newest_first(self._state())
            if (state is None or task.state is state)
            and (circuit is None or task.circuit == circuit)
            and (cursor is None or (task.created_ms, task.id) < (cursor.created_ms, cursor.task_id))
        )
        tasks = list(islice(wanted, size + 1))
        if len(tasks) <= size:
            return TaskListing(tasks, "")
        last = tasks[size - 1]
        return TaskListing(tasks[:size], encode_token(Cursor(last.created_ms, last.id), filters))


def newest_first(state: State) -> Iterator[Task]:
    """Yield the tasks in memory by creation time and id, both descending, as the projection lists them.

    They are stored in the order of submission, so that only tasks of the same millisecond need sorting.
    """
    for _, together in groupby(reversed(state.tasks.values()), key=lambda task: task.created_ms):
        yield from sorted(together, key=lambda task: task.id, reverse=True)


async def _with_timeout(read: Awaitable[Answer]) -> Answer:
    try:
        async with asyncio.timeout(_READ_TIMEOUT_S):
            return await read
    except TimeoutError:
        raise ProjectionUnavailable(f"no answer within {_READ_TIMEOUT_S:g} s") from None
