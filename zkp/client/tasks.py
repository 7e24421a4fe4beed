"""Task API of the client library: submit, read, watch, list and cancel tasks at the leader."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterable

from zkp.client.errors import ClientError, Exhausted
from zkp.client.failures import CallFailed, stream_ended
from zkp.client.leader import LeaderConnection
from zkp.client.model import Accepted, Submission, Task, TaskPage, TaskState, state_number
from zkp.client.pipeline import SubmissionPipeline
from zkp.protocol.limits import MAX_PAGE_SIZE, PAGE_SIZE
from zkp.protocol.v1 import coordinator_pb2 as pb

DEFAULT_TIMEOUT_S = 15.0  # much longer than an election, so that a failover causes a delay and not an error
DEFAULT_WINDOW = 256


class TaskClient:
    """The task service over a `LeaderConnection`, which the caller owns.

    `timeout` (seconds) limits the search for a leader that answers. Every method raises `NoLeader` when it has
    passed, and another `ClientError` if the leader rejects the request.
    """

    def __init__(self, connection: LeaderConnection, *, timeout: float = DEFAULT_TIMEOUT_S) -> None:
        self._connection = connection
        self._timeout = timeout

    async def submit(self, submission: Submission) -> Accepted:
        """Submit one task.

        Raises:
            InvalidSubmission: the submission is invalid; `field` names the field.
            AlreadyExists: a different submission has this task id.
            Exhausted: the network is at capacity.
        """
        request = pb.SubmitTaskRequest(submission=submission.message())
        response = await self._connection.call(lambda stubs: stubs.tasks.SubmitTask, request, timeout=self._timeout)
        return Accepted.read(response)

    def pipeline(self, *, window: int = DEFAULT_WINDOW) -> SubmissionPipeline:
        """Return a stream for many submissions, an asynchronous context manager."""
        return SubmissionPipeline(self._connection, window=window, timeout=self._timeout)

    async def submit_many(
        self, submissions: Iterable[Submission], *, window: int = DEFAULT_WINDOW
    ) -> AsyncGenerator[tuple[Submission, Accepted | ClientError], None]:
        """Submit many tasks, at most `window` unanswered at a time, and yield the outcomes in the same order.

        A rejected submission yields its error and does not stop the others. `NoLeader` and `Exhausted` are yielded
        after retries for `timeout` seconds.
        """
        async with self.pipeline(window=window) as pipeline:
            waiting: deque[tuple[Submission, asyncio.Task[Accepted | ClientError]]] = deque()
            try:
                for submission in submissions:
                    waiting.append((submission, asyncio.create_task(self._outcome(pipeline, submission))))
                    if len(waiting) >= window:
                        asked, task = waiting.popleft()
                        yield asked, await task
                while waiting:
                    asked, task = waiting.popleft()
                    yield asked, await task
            finally:
                for _, task in waiting:
                    task.cancel()

    async def _outcome(self, pipeline: SubmissionPipeline, submission: Submission) -> Accepted | ClientError:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._timeout
        while True:
            try:
                return await pipeline.submit(submission)
            except Exhausted as error:
                if clock() + error.retry_after > deadline:
                    return error
                await asyncio.sleep(error.retry_after)
            except ClientError as error:
                return error

    async def get(self, task_id: str) -> Task:
        """Return the task in its current state; raises `NotFound`."""
        request = pb.GetTaskRequest(task_id=task_id)
        return Task.read(
            await self._connection.call(lambda stubs: stubs.tasks.GetTask, request, timeout=self._timeout)
        )

    async def watch(self, task_id: str) -> AsyncGenerator[Task, None]:
        """Yield the task in its current state and after each change until its final state, across failovers.

        Revisions increase; versions that a new leader repeats are skipped. Raises `NotFound`.
        """
        request = pb.WatchTaskRequest(task_id=task_id)
        retry = self._connection.retry(self._timeout)
        revision = -1
        while True:
            channel = await retry.channel()
            try:
                stream = channel.stream(lambda stubs: stubs.tasks.WatchTask, request)
                async with contextlib.aclosing(stream):
                    async for message in stream:
                        retry.reached(channel)
                        if message.revision <= revision:
                            continue
                        revision = message.revision
                        task = Task.read(message)
                        yield task
                        if task.state.final:
                            return
                retry.failed(channel, stream_ended())
            except CallFailed as failure:
                retry.failed(channel, failure)

    async def wait(self, task_id: str) -> Task:
        """Wait for the task's final state, without a time limit; raises `NotFound`."""
        async with contextlib.aclosing(self.watch(task_id)) as versions:
            async for task in versions:
                if task.state.final:
                    return task
        raise AssertionError("watch ends with a final state")

    async def page(
        self,
        *,
        state: TaskState | None = None,
        circuit: str = "",
        size: int = PAGE_SIZE,
        token: str = "",
    ) -> TaskPage:
        """Return one page of `size` (1–1,000) tasks, newest first; `token` is `next_token` of the previous page."""
        request = pb.ListTasksRequest(state=state_number(state), circuit=circuit, page_size=size, page_token=token)
        response = await self._connection.call(lambda stubs: stubs.tasks.ListTasks, request, timeout=self._timeout)
        return TaskPage(tuple(Task.read(task) for task in response.tasks), response.next_page_token)

    async def list(
        self, *, state: TaskState | None = None, circuit: str = "", limit: int | None = None
    ) -> AsyncGenerator[Task, None]:
        """Yield at most `limit` tasks, newest first, fetched page by page."""
        token, left = "", limit
        while left is None or left > 0:
            size = min(left or MAX_PAGE_SIZE, MAX_PAGE_SIZE)
            page = await self.page(state=state, circuit=circuit, size=size, token=token)
            for task in page.tasks[:left]:
                yield task
            if left is not None:
                left -= len(page.tasks)
            token = page.next_token
            if not token:
                return

    async def cancel(self, task_id: str) -> Task:
        """Cancel the task; raises `NotFound`, or `Conflict` if it has completed or failed."""
        request = pb.CancelTaskRequest(task_id=task_id)
        return Task.read(
            await self._connection.call(lambda stubs: stubs.tasks.CancelTask, request, timeout=self._timeout)
        )
