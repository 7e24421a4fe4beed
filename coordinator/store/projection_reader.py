"""Reads of the record, for every node: what became of tasks, also of those that the cluster has forgotten."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from psycopg.rows import DictRow

from coordinator.state.model import Attempt, AttemptState, Task, TaskState
from coordinator.store.batch import sanitize_text
from coordinator.store.connection import Database
from coordinator.store.connections import ConnectionPool, Readers
from coordinator.store.observer import StoreObserver
from coordinator.store.paging import Cursor, decode_token, encode_token
from coordinator.store.queries import QUERIES
from zkp.protocol.limits import MAX_PAGE_SIZE

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Tasks, newest first, and the token of the next page; empty on the last one."""

    tasks: tuple[Task, ...]
    next_token: str


@dataclass(frozen=True, slots=True)
class Summary:
    """The record at a glance.

    accepted_once: completed tasks with exactly one accepted result; less than `counts[COMPLETED]` would be a
    fault.
    """

    term: int
    revision: int
    counts: Mapping[TaskState, int]
    accepted_once: int


class ProjectionReader:
    """Read-only; may lag behind the replicated state. Its methods raise RecordUnavailable when it is away."""

    def __init__(self, database: Database, max_connections: int, observer: StoreObserver | None = None) -> None:
        self._readers = Readers(database, max_connections, observer or StoreObserver())

    @property
    def connections(self) -> ConnectionPool:
        """Those for reading, as they are now."""
        return self._readers.connections

    async def close(self) -> None:
        """Close the connections that are not in use."""
        await self._readers.close()

    async def get_task(self, task_id: str) -> Task | None:
        """The task, or None. Its `inputs` and `digest` are empty: the record does not hold them."""
        rows = await self._readers.fetch(QUERIES["get_task"], {"id": sanitize_text(task_id)})
        return _task(rows[0]) if rows else None

    async def get_attempts(self, task_id: str) -> tuple[Attempt, ...]:
        """Every attempt at the task, first to last; none for a task that is not there."""
        rows = await self._readers.fetch(QUERIES["get_attempts"], {"id": sanitize_text(task_id)})
        return tuple(_attempt(row) for row in rows)

    async def list_tasks(
        self, state: TaskState | None, circuit: str | None, page_size: int, page_token: str
    ) -> TaskPage:
        """One page, newest first; `page_size` is 1 to 1,000, the first page's token is empty.

        Tasks that come in while somebody pages push none from one page to the next. Raises PageTokenError.
        """
        if not 1 <= page_size <= MAX_PAGE_SIZE:
            raise ValueError(f"page_size: must be 1 to {MAX_PAGE_SIZE}")
        filters = (state or "", circuit or "")
        place = decode_token(page_token, filters) if page_token else None
        rows = await self._readers.fetch(
            QUERIES["list_tasks"],
            {
                "state": None if state is None else str(state),
                "circuit": None if circuit is None else sanitize_text(circuit),
                "before_ms": place and place.created_ms,
                "before_id": place and place.task_id,
                "limit": page_size + 1,
            },
        )
        tasks = tuple(_task(row) for row in rows[:page_size])
        more = len(rows) > page_size
        return TaskPage(tasks, encode_token(Cursor(tasks[-1].created_ms, tasks[-1].id), filters) if more else "")

    async def summary(self) -> Summary:
        """Counts over the whole record; reads all of it."""
        (row,) = await self._readers.fetch(QUERIES["summary"], {})
        counts = {state: int(row["counts"].get(state, 0)) for state in TaskState}
        return Summary(row["term"], row["revision"], counts, row["accepted_once"])


def _task(row: DictRow) -> Task:
    return Task(
        id=row["id"],
        submitter=row["submitter"],
        circuit=row["circuit"],
        public_inputs=tuple(row["public_inputs"]),
        max_retries=row["max_retries"],
        digest=b"",
        verifying_key_sha256=row["verifying_key_sha256"],
        created_ms=_ms(row["created_at"]),
        state=TaskState(row["state"]),
        attempt=row["attempt"],
        retries=row["retries"],
        worker_id=row["worker_id"] or "",
        term=row["term"],
        proof=row["proof"] or b"",
        error_code=row["error_code"] or "",
        error_message=row["error_message"] or "",
        assigned_ms=_ms(row["assigned_at"]),
        started_ms=_ms(row["started_at"]),
        finished_ms=_ms(row["finished_at"]),
        revision=row["revision"],
    )


def _attempt(row: DictRow) -> Attempt:
    return Attempt(
        task_id=row["task_id"],
        attempt=row["attempt"],
        worker_id=row["worker_id"],
        term=row["term"],
        state=AttemptState(row["state"]),
        error_code=row["error_code"] or "",
        error_message=row["error_message"] or "",
        assigned_ms=_ms(row["assigned_at"]),
        started_ms=_ms(row["started_at"]),
        ended_ms=_ms(row["ended_at"]),
        revision=row["revision"],
    )


def _ms(moment: datetime | None) -> int:
    return 0 if moment is None else (moment - _EPOCH) // timedelta(milliseconds=1)
