"""gRPC handlers for gateways and clients."""

# ruff: noqa: ARG002, N802 - gRPC gives names and arguments

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from coordinator.rpc import convert
from coordinator.rpc.batches import batches
from coordinator.rpc.gate import caller
from coordinator.services.tasks import Tasks
from zkp.protocol.v1 import coordinator_pb2 as pb
from zkp.protocol.v1 import coordinator_pb2_grpc as pb_grpc

Context = grpc.aio.ServicerContext[Any, Any]

_BATCH = 256  # submissions of one stream that are proposed together


class TaskService(pb_grpc.TaskServiceServicer):
    """Handlers that submit, read, watch, list and cancel tasks."""

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def SubmitTask(self, request: pb.SubmitTaskRequest, context: Context) -> pb.SubmitTaskResponse:
        """Accept one task."""
        submission = convert.submission_from_pb(request.submission)
        return convert.accepted_to_pb(await self._tasks.submit(submission, _submitter()))

    async def SubmitTasks(self, request: pb.SubmitTasksRequest, context: Context) -> pb.SubmitTasksResponse:
        """Accept several tasks; each has a result of its own."""
        return await self._submit(request, _submitter())

    async def StreamSubmissions(
        self, request_iterator: AsyncIterator[pb.Submission], context: Context
    ) -> AsyncIterator[pb.SubmitResult]:
        """Accept a stream of tasks, in batches of those that have arrived."""
        submitter = _submitter()
        async with aclosing(batches(request_iterator, _BATCH)) as received:
            async for messages in received:
                submissions = [convert.submission_from_pb(message) for message in messages]
                for result in await self._tasks.submit_many(submissions, submitter):
                    yield convert.result_to_pb(result)

    async def StreamBatches(
        self, request_iterator: AsyncIterator[pb.SubmitTasksRequest], context: Context
    ) -> AsyncIterator[pb.SubmitTasksResponse]:
        """Accept a stream of batches."""
        submitter = _submitter()
        async for request in request_iterator:
            yield await self._submit(request, submitter)

    async def _submit(self, request: pb.SubmitTasksRequest, submitter: str) -> pb.SubmitTasksResponse:
        submissions = [convert.submission_from_pb(message) for message in request.submissions]
        results = await self._tasks.submit_many(submissions, submitter)
        return convert.results_to_pb(results)

    async def GetTask(self, request: pb.GetTaskRequest, context: Context) -> pb.Task:
        """Return a task."""
        return convert.task_to_pb(await self._tasks.get(request.task_id))

    async def WatchTask(self, request: pb.WatchTaskRequest, context: Context) -> AsyncIterator[pb.Task]:
        """Stream the versions of a task until its final state."""
        async with aclosing(self._tasks.watch(request.task_id)) as versions:
            async for task in versions:
                yield convert.task_to_pb(task)

    async def ListTasks(self, request: pb.ListTasksRequest, context: Context) -> pb.ListTasksResponse:
        """Return a page of tasks."""
        listing = await self._tasks.page(
            convert.state_from_pb(request.state),
            request.circuit or None,
            request.page_size,
            request.page_token,
        )
        return convert.listing_to_pb(listing)

    async def CancelTask(self, request: pb.CancelTaskRequest, context: Context) -> pb.Task:
        """Cancel a task."""
        return convert.task_to_pb(await self._tasks.cancel(request.task_id))


def _submitter() -> str:
    identity = caller()
    return f"{identity.role}/{identity.name}"
