"""Reads of the projection, on every node: tasks and their outcomes, evicted tasks included."""

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
class ProjectedTasks:
    """Tasks, newest first, and the token of the next page; empty on the last one."""

    tasks: tuple[Task, ...]
    next_token: str


@dataclass(frozen=True, slots=True)
class Summary:
    """Position and totals of the projection.

    `accepted_once` is the number of completed tasks with exactly one accepted result; it must be `counts[COMPLETED]`.
    """

    term: int
    revision: int
    counts: Mapping[TaskState, int]
    accepted_once: int


class ProjectionReader:
    """Reads of the projection, which may lag behind the replicated state.

    Every method raises `ProjectionUnavailable` while PostgreSQL is unavailable.
    """

    def __init__(self, database: Database, max_connections: int, observer: StoreObserver | None = None) -> None:
        self._readers = Readers(database, max_connections, observer or StoreObserver())

    @property
    def connections(self) -> ConnectionPool:
        """The current numbers of connections for reading."""
        return self._readers.connections

    async def close(self) -> None:
        """Close the idle connections."""
        await self._readers.close()

    async def get_task(self, task_id: str) -> Task | None:
        """Return the task, or None. Its `inputs` and `digest` are empty: the projection does not store them."""
        rows = await self._readers.fetch(QUERIES["get_task"], {"id": sanitize_text(task_id)})
        return _task(rows[0]) if rows else None

    async def get_attempts(self, task_id: str) -> tuple[Attempt, ...]:
        """Return every attempt of the task, first to last; none for an unknown task."""
        rows = await self._readers.fetch(QUERIES["get_attempts"], {"id": sanitize_text(task_id)})
        return tuple(_attempt(row) for row in rows)

    async def list_tasks(
        self, state: TaskState | None, circuit: str | None, page_size: int, page_token: str
    ) -> ProjectedTasks:
        """Return one page of tasks, newest first.

        New tasks do not move others from one page to the next.

        Args:
            state: Only tasks in this state, if given.
            circuit: Only tasks of this circuit, if given.
            page_size: 1–1,000.
            page_token: Empty for the first page.

        Raises:
            PageTokenError: The token is invalid, or belongs to other filters.
        """
        if not 1 <= page_size <= MAX_PAGE_SIZE:
            raise ValueError(f"page_size: must be 1–{MAX_PAGE_SIZE}")
        filters = (state or "", circuit or "")
        cursor = decode_token(page_token, filters) if page_token else None
        rows = await self._readers.fetch(
            QUERIES["list_tasks"],
            {
                "state": None if state is None else str(state),
                "circuit": None if circuit is None else sanitize_text(circuit),
                "before_ms": cursor and cursor.created_ms,
                "before_id": cursor and cursor.task_id,
                "limit": page_size + 1,
            },
        )
        tasks = tuple(_task(row) for row in rows[:page_size])
        more = len(rows) > page_size
        return ProjectedTasks(
            tasks, encode_token(Cursor(tasks[-1].created_ms, tasks[-1].id), filters) if more else ""
        )

    async def summary(self) -> Summary:
        """Return totals over the whole projection; scans all of it."""
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
