"""In-memory coordinators for a gateway: tasks, idempotent submission, watching, errors."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

from zkp.client.errors import AlreadyExists, ClientError, Conflict, InvalidSubmission, NotFound
from zkp.client.model import Accepted, Submission, Task, TaskPage, TaskState

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
PROOF = (bytes(16) + bytes(range(1, 17))) * 8


class FakeNetwork:
    """A `gateway.network.Network`. `error`, when set, is what every question is answered with."""

    def __init__(self) -> None:
        self.error: ClientError | None = None
        self.submissions: list[Submission] = []
        self.watched = asyncio.Event()
        self._tasks: dict[str, Task] = {}
        self._changed = asyncio.Condition()

    @property
    def tasks(self) -> list[Task]:
        """Every task, newest first."""
        return list(reversed(self._tasks.values()))

    async def submit(self, submission: Submission) -> Accepted:
        self._refuse()
        for known in self.submissions:
            if known.task_id == submission.task_id:
                if known != submission:
                    raise AlreadyExists("another submission has this id")
                return Accepted(self._tasks[known.task_id], duplicate=True)
        self.submissions.append(submission)
        task = _pending(submission)
        self._tasks[task.id] = task
        return Accepted(task, duplicate=False)

    async def get(self, task_id: str) -> Task:
        self._refuse()
        if task_id not in self._tasks:
            raise NotFound(f"no task {task_id}")
        return self._tasks[task_id]

    async def watch(self, task_id: str) -> AsyncIterator[Task]:
        task = await self.get(task_id)
        while True:
            self.watched.set()
            yield task
            if task.state.final:
                return
            async with self._changed:
                await self._changed.wait()
            task = self._tasks[task_id]

    async def page(
        self, *, state: TaskState | None = None, circuit: str = "", size: int = 100, token: str = ""
    ) -> TaskPage:
        self._refuse()
        if token and not token.isdecimal():
            raise InvalidSubmission("is not one that a listing gave", "page_token")
        fitting = [task for task in self.tasks if state in (None, task.state) and circuit in ("", task.circuit)]
        start = int(token or 0)
        more = start + size < len(fitting)
        return TaskPage(tuple(fitting[start : start + size]), str(start + size) if more else "")

    async def cancel(self, task_id: str) -> Task:
        task = await self.get(task_id)
        if task.state in (TaskState.COMPLETED, TaskState.FAILED):
            raise Conflict(f"task {task_id} is {task.state}")
        return await self.change(task_id, TaskState.CANCELLED)

    async def change(self, task_id: str, state: TaskState) -> Task:
        """Move a task; completed ones have a proof."""
        task = replace(self._tasks[task_id], state=state, finished_at=NOW if state.final else None)
        if state is TaskState.COMPLETED:
            task = replace(task, attempt=1, proof=PROOF, verifying_key_sha256="ab" * 32)
        self._tasks[task_id] = task
        async with self._changed:
            self._changed.notify_all()
        return task

    def _refuse(self) -> None:
        if self.error is not None:
            raise self.error


def _pending(submission: Submission) -> Task:
    return Task(
        id=submission.task_id,
        circuit=submission.circuit,
        state=TaskState.PENDING,
        attempt=0,
        retries=0,
        max_retries=3 if submission.max_retries is None else submission.max_retries,
        worker_id=None,
        public_inputs=submission.public_inputs,
        proof=None,
        verifying_key_sha256=None,
        error=None,
        created_at=NOW,
        assigned_at=None,
        started_at=None,
        finished_at=None,
        revision=1,
    )
