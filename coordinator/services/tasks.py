"""The use cases of clients and gateways: submit, read, watch, list and cancel tasks.

Acceptance is bounded: beyond `max_backlog` pending tasks, or `max_unprojected` events that are not yet projected, new
tasks are rejected with a retry time, and accepted tasks continue.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from coordinator.errors import (
    AlreadyExists,
    CoordinatorError,
    InvalidRequest,
    NotFound,
    Overloaded,
    TaskEnded,
    Unavailable,
)
from coordinator.leader.watchers import TaskWatchers
from coordinator.replication.replicator import Replicator
from coordinator.services.circuit_keys import CircuitKeys
from coordinator.services.validation import Submission, check, check_task_id
from coordinator.state.commands import Cancel, Submit
from coordinator.state.model import Outcome, RefusalCode, Task, TaskState
from zkp.protocol.limits import MAX_PAGE_SIZE, MAX_SUBMISSIONS, PAGE_SIZE

_VALIDATION_CHUNK = 32  # submissions, before the event loop gets a turn: heartbeats must not wait for a big request
_RETRY_AFTER_S = 2.0


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """Limits of submissions.

    max_backlog: pending tasks; max_unprojected: events not yet projected; max_retries: default of a submission
    without one.
    """

    max_backlog: int
    max_unprojected: int
    max_retries: int


@dataclass(frozen=True, slots=True)
class AcceptedTask:
    """duplicate: this id was accepted before, and nothing new was queued."""

    task: Task
    duplicate: bool


@dataclass(frozen=True, slots=True)
class TaskListing:
    """One page, newest first. `next_token` is empty on the last one."""

    tasks: Sequence[Task]
    next_token: str


class TaskHistory(Protocol):
    """Reads of all tasks, evicted ones included. The methods raise `Unavailable` while PostgreSQL is unavailable."""

    async def task(self, task_id: str) -> Task | None:
        """Return a task; None if it is unknown."""
        ...

    async def page(self, state: TaskState | None, circuit: str | None, size: int, token: str) -> TaskListing:
        """Return a page of tasks."""
        ...


class Tasks:
    """The leader's task use cases. `submitter` is the caller, which is stored with the task."""

    def __init__(
        self,
        replicator: Replicator,
        record: TaskHistory,
        keys: CircuitKeys,
        watchers: TaskWatchers,
        limits: TaskLimits,
    ) -> None:
        self._replicator = replicator
        self._record = record
        self._keys = keys
        self._watchers = watchers
        self._limits = limits
        self._in_flight = 0

    async def submit(self, submission: Submission, submitter: str) -> AcceptedTask:
        """Submit one task, and return once a quorum has it. The same id and content return the same task."""
        self._replicator.require_leader()
        command = self._admit(submission, submitter, 0)
        self._in_flight += 1
        try:
            outcome = await self._replicator.submit(command)
        finally:
            self._in_flight -= 1
        return _accepted(outcome)

    async def submit_many(
        self, submissions: Sequence[Submission], submitter: str
    ) -> list[AcceptedTask | CoordinatorError]:
        """Submit tasks independently of each other, in order. Raises only errors that concern all of them."""
        self._replicator.require_leader()
        if len(submissions) > MAX_SUBMISSIONS:
            raise InvalidRequest("submissions", f"at most {MAX_SUBMISSIONS} in one request")
        results: list[AcceptedTask | CoordinatorError | None] = []
        commands: list[Submit] = []
        for position, submission in enumerate(submissions, start=1):
            try:
                commands.append(self._admit(submission, submitter, len(commands)))
                results.append(None)
            except CoordinatorError as refusal:
                results.append(refusal)
            if position % _VALIDATION_CHUNK == 0:
                await asyncio.sleep(0)
        outcomes = iter(await self._submit_all(commands))
        return [_result(next(outcomes)) if result is None else result for result in results]

    async def get(self, task_id: str) -> Task:
        """Return the task after everything that was accepted before the call (a linearizable read)."""
        check_task_id(task_id)
        self._replicator.require_leader()
        await self._replicator.barrier()
        return await self._find(task_id)

    async def watch(self, task_id: str) -> AsyncGenerator[Task, None]:
        """Yield the task as it is, then newer versions until it ends; a slow caller skips versions."""
        current = await self.get(task_id)
        if current.state.final:
            yield current
            return
        # Nothing happened since `get` looked into memory, so no version is missed. But leadership may have ended
        # while the barrier's answer was on its way here, and then nothing would end this watch.
        self._replicator.require_leader()
        async with aclosing(self._watchers.follow(current)) as versions:
            async for task in versions:
                yield task

    async def page(self, state: TaskState | None, circuit: str | None, size: int, token: str) -> TaskListing:
        """Return one page of tasks, newest first; only those in memory while PostgreSQL is unavailable.

        A size of 0 means the default size.
        """
        self._replicator.require_leader()
        if size > MAX_PAGE_SIZE:
            raise InvalidRequest("page_size", f"must be 1 to {MAX_PAGE_SIZE}")
        return await self._record.page(state, circuit, size or PAGE_SIZE, token)

    async def cancel(self, task_id: str) -> Task:
        """Cancel a task that has not ended. Cancelling a cancelled task succeeds."""
        check_task_id(task_id)
        self._replicator.require_leader()
        outcome = await self._replicator.submit(Cancel(task_id))
        if outcome.refusal is None and outcome.task is not None:
            return outcome.task
        if outcome.task is not None:
            raise TaskEnded(f"task {task_id} is already {outcome.task.state}")
        task = await self._find(task_id)
        if task.state is TaskState.CANCELLED:
            return task
        raise TaskEnded(f"task {task_id} is already {task.state}")

    def _admit(self, submission: Submission, submitter: str, ahead: int) -> Submit:
        """Validate a submission and return its command. `ahead`: commands of the same request before it."""
        command = check(submission, submitter, self._limits.max_retries)
        state = self._replicator.state
        if submission.task_id in state.tasks:
            return command  # a duplicate adds no work, so that no limit applies
        if not self._keys.serves(submission.circuit):
            self._refuse_circuit(submission.circuit)
        if state.counts[TaskState.PENDING] + self._in_flight + ahead >= self._limits.max_backlog:
            raise Overloaded(f"{self._limits.max_backlog} tasks are queued, which is the limit", _RETRY_AFTER_S)
        if len(state.outbox) >= self._limits.max_unprojected:
            raise Overloaded(
                f"{self._limits.max_unprojected} events wait for PostgreSQL, which is the limit", _RETRY_AFTER_S
            )
        return command

    def _refuse_circuit(self, circuit: str) -> None:
        if circuit in self._keys.local:
            # Not pinned yet by a leader that has just started, or pinned to another key than this node's.
            raise Unavailable(f"circuit: this node cannot serve {circuit} now")
        raise InvalidRequest("circuit", f"{circuit} is not offered: this cluster has no verifying key for it")

    async def _submit_all(self, commands: Sequence[Submit]) -> list[Outcome]:
        if not commands:
            return []
        self._in_flight += len(commands)
        try:
            return await self._replicator.submit_all(commands)
        finally:
            self._in_flight -= len(commands)

    async def _find(self, task_id: str) -> Task:
        task = self._replicator.state.tasks.get(task_id)
        if task is None:
            task = await self._record.task(task_id)
        # The projection answers later than memory did: the task may have been submitted meanwhile.
        task = self._replicator.state.tasks.get(task_id, task)
        if task is None:
            raise NotFound(f"there is no task {task_id}")
        return task


def _accepted(outcome: Outcome) -> AcceptedTask:
    result = _result(outcome)
    if isinstance(result, CoordinatorError):
        raise result
    return result


def _result(outcome: Outcome) -> AcceptedTask | CoordinatorError:
    if outcome.refusal is None and outcome.task is not None:
        return AcceptedTask(outcome.task, outcome.duplicate)
    if outcome.refusal is None:
        return Unavailable("the outcome names no task: submit again with the same id")
    if outcome.refusal.code is RefusalCode.CONFLICT:
        return AlreadyExists(outcome.refusal.message)
    return InvalidRequest("circuit", outcome.refusal.message.removeprefix("circuit: "))
