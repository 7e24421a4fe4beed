"""gRPC handlers for workers. Every use case gets the name in the certificate and compares it with the worker id."""

# ruff: noqa: ARG002, N802 - gRPC gives names and arguments

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc

from coordinator.rpc import convert
from coordinator.rpc.gate import caller, caller_serial
from coordinator.services.reports import Reports
from coordinator.services.workers import Workers
from zkp.protocol.v1 import coordinator_pb2 as pb
from zkp.protocol.v1 import coordinator_pb2_grpc as pb_grpc

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class WorkerTiming:
    """Timing that is sent to workers, in ms: heartbeat interval, heartbeat timeout, time limit of an attempt."""

    heartbeat_interval_ms: int
    lease_ms: int
    time_limit_ms: int


class WorkerService(pb_grpc.WorkerServiceServicer):
    """Handlers for registration, heartbeats, assignments and reports."""

    def __init__(self, workers: Workers, reports: Reports, timing: WorkerTiming) -> None:
        self._workers = workers
        self._reports = reports
        self._timing = timing

    async def RegisterWorker(self, request: pb.RegisterWorkerRequest, context: Context) -> pb.RegisterWorkerResponse:
        """Register a worker process."""
        registration = convert.registration_from_pb(request)
        dropped = await self._workers.register(caller().name, registration, caller_serial())
        return pb.RegisterWorkerResponse(
            heartbeat_interval_ms=self._timing.heartbeat_interval_ms,
            lease_ms=self._timing.lease_ms,
            dropped=convert.held_to_pb(dropped),
        )

    async def SendHeartbeat(self, request: pb.HeartbeatRequest, context: Context) -> pb.HeartbeatResponse:
        """Renew the leases of a worker."""
        held = convert.held_from_pb(request.held)
        dropped = await self._workers.heartbeat(
            caller().name, request.worker_id, request.incarnation, held, caller_serial()
        )
        return pb.HeartbeatResponse(dropped=convert.held_to_pb(dropped))

    async def ReceiveTasks(self, request: pb.ReceiveTasksRequest, context: Context) -> AsyncIterator[pb.Assignment]:
        """Stream assignments to a worker."""
        stream = await self._workers.connect(caller().name, request.worker_id, request.incarnation, caller_serial())
        try:
            # At once, so that the worker knows that it is connected before its first task comes.
            await context.send_initial_metadata(())
            async with aclosing(self._workers.assignments(stream)) as assignments:
                async for assignment in assignments:
                    yield convert.assignment_to_pb(assignment, self._timing.time_limit_ms)
        finally:
            self._workers.disconnect(stream)

    async def StartTask(self, request: pb.StartTaskRequest, context: Context) -> pb.StartTaskResponse:
        """Accept the report that an attempt has started."""
        await self._reports.start(caller().name, request.worker_id, request.task_id, request.attempt)
        return pb.StartTaskResponse()

    async def ReportCompletion(self, request: pb.CompletionReport, context: Context) -> pb.CompletionResponse:
        """Accept a proof, after its verification."""
        await self._reports.complete(
            caller().name, request.worker_id, request.task_id, request.attempt, request.proof
        )
        return pb.CompletionResponse()

    async def ReportFailure(self, request: pb.FailureReport, context: Context) -> pb.FailureResponse:
        """Accept the report that an attempt has failed."""
        await self._reports.fail(
            caller().name,
            request.worker_id,
            request.task_id,
            request.attempt,
            code=request.error.code,
            message=request.error.message,
            retryable=request.retryable,
            released=request.released,
        )
        return pb.FailureResponse()
