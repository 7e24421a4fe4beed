"""Fake coordinators: the real API over real mutual TLS, with one shared object as the replicated state.

They keep to the protocol where a test does not say otherwise: followers redirect, submissions are idempotent,
attempts are numbered, stale reports are refused, `held` and `dropped` are answered truthfully, undelivered
assignments come again with the next stream. Tests look at what was recorded and wait with `until`.
"""
# ruff: noqa: N802 - gRPC names the handlers

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from pki.ca.authority import Authority
from pki.tls.material import TlsFiles, TlsMaterial, grpc_peer_identity
from pki.x509.identity import Role
from zkp.protocol.v1 import coordinator_pb2 as pb
from zkp.protocol.v1 import coordinator_pb2_grpc as pb_grpc

TRUST_DOMAIN = "zkp.local"
HOST = "127.0.0.1"
YESTERDAY = datetime.now(UTC) - timedelta(days=1)
WAIT_S = 120.0  # how long a test waits for something before it fails

Attempt = tuple[str, int]


class Network:
    """An authority and the identities that it issued."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority.create(TRUST_DOMAIN, now=YESTERDAY)

    def issue(self, name: str, role: Role, *, replace: bool = False) -> TlsFiles:
        """Files of a new identity for this machine."""
        issued = self.authority.issue(name, role, [HOST, "localhost"], now=datetime.now(UTC))
        return issued.write(self.directory, replace=replace)

    def material(self, name: str, role: Role) -> TlsMaterial:
        """The same, loaded."""
        return TlsMaterial.load(self.issue(name, role))


@dataclass
class FakeTask:
    """A task in the shared state."""

    submission: pb.Submission
    attempt: int = 0
    state: Any = pb.TASK_STATE_PENDING
    worker_id: str = ""
    proof: bytes = b""
    error: pb.TaskError | None = None
    revision: int = 0
    time_limit_ms: int = 60_000

    def message(self) -> pb.Task:
        return pb.Task(
            id=self.submission.task_id,
            circuit=self.submission.circuit,
            state=self.state,
            attempt=self.attempt,
            worker_id=self.worker_id,
            public_inputs=self.submission.public_inputs,
            proof=self.proof,
            error=self.error,
            revision=self.revision,
        )


@dataclass
class Records:
    """What callers did, in order."""

    submissions: list[str] = field(default_factory=list)
    registrations: list[pb.RegisterWorkerRequest] = field(default_factory=list)
    heartbeats: list[pb.HeartbeatRequest] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    starts: list[Attempt] = field(default_factory=list)
    completions: list[pb.CompletionReport] = field(default_factory=list)
    failures: list[pb.FailureReport] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


class Cluster:
    """`size` coordinators that share one state; at most one leads. An asynchronous context manager."""

    def __init__(
        self, network: Network, size: int = 3, *, keys: dict[str, str] | None = None, lease_ms: int = 5_000
    ) -> None:
        self.network = network
        self.keys = keys or {}
        self.lease_ms = lease_ms
        self.heartbeat_ms = 100
        self.leader: int | None = 0
        self.tasks: dict[str, FakeTask] = {}
        self.revoked: list[pb.Revocation] = []
        self.incarnations: dict[str, str] = {}
        self.records = Records()
        self.quarantined: dict[str, str] = {}
        self.refusals: dict[str, tuple[grpc.StatusCode, str]] = {}
        """Method name → status code and message for every call."""
        self.nodes = [Node(self, network, number) for number in range(1, size + 1)]
        self._changed = asyncio.Event()
        self._revision = 0

    async def __aenter__(self) -> Self:
        for node in self.nodes:
            await node.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(node.stop() for node in self.nodes))

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(node.address for node in self.nodes)

    def lead(self, index: int | None) -> None:
        """Make this node the leader; streams of the old leader end."""
        self.leader = index
        self.changed()

    def changed(self) -> None:
        """Wake all waiters."""
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], Any]) -> None:
        """Wait until a change has made the condition true."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await self._changed.wait()

    async def next_change(self) -> None:
        """Wait for any change."""
        await self._changed.wait()

    def touch(self, task: FakeTask) -> None:
        """Give the task a new revision."""
        self._revision += 1
        task.revision = self._revision
        self.changed()

    def submit(self, submission: pb.Submission) -> tuple[FakeTask, bool]:
        """Accept a submission once."""
        known = self.tasks.get(submission.task_id)
        if known is not None:
            return known, True
        task = self.tasks[submission.task_id] = FakeTask(submission)
        self.touch(task)
        return task, False

    def assign(self, task_id: str, worker_id: str, *, time_limit_ms: int = 60_000) -> Attempt:
        """Give a task to a worker as a new attempt."""
        task = self.tasks[task_id]
        task.attempt += 1
        task.worker_id = worker_id
        task.state = pb.TASK_STATE_ASSIGNED
        task.time_limit_ms = time_limit_ms
        self.touch(task)
        return task_id, task.attempt

    def end_lease(self, task_id: str) -> None:
        """End the lease, as a cancellation or a lost lease does."""
        task = self.tasks[task_id]
        task.worker_id = ""
        task.state = pb.TASK_STATE_PENDING
        self.touch(task)

    def leased(self, worker_id: str) -> set[Attempt]:
        """Return the attempts leased to this worker."""
        active = (pb.TASK_STATE_ASSIGNED, pb.TASK_STATE_IN_PROGRESS)
        return {
            (task_id, task.attempt)
            for task_id, task in self.tasks.items()
            if task.worker_id == worker_id and task.state in active
        }

    def revoke(self, serial: int) -> None:
        """Add a revocation and notify its followers."""
        self.revoked.append(pb.Revocation(serial=f"{serial:x}", revision=len(self.revoked) + 1))
        self.changed()

    def assignment(self, task_id: str) -> pb.Assignment:
        """Return the assignment message of a task."""
        task = self.tasks[task_id]
        submission = task.submission
        return pb.Assignment(
            task_id=task_id,
            attempt=task.attempt,
            circuit=submission.circuit,
            inputs=submission.inputs,
            public_inputs=submission.public_inputs,
            verifying_key_sha256=self.keys.get(submission.circuit, ""),
            time_limit_ms=task.time_limit_ms,
        )


class Node:
    """One server. Stop it and start it again on the same port."""

    def __init__(self, cluster: Cluster, network: Network, number: int) -> None:
        self.cluster = cluster
        self.index = number - 1
        self.material = network.material(f"coordinator-{number}", Role.COORDINATOR)
        self.port = 0
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    async def start(self) -> None:
        self._server = grpc.aio.server()
        pb_grpc.add_TaskServiceServicer_to_server(Tasks(self), self._server)
        pb_grpc.add_WorkerServiceServicer_to_server(Workers(self), self._server)
        pb_grpc.add_AdminServiceServicer_to_server(Admin(self), self._server)  # type: ignore[abstract]  # it revokes nothing
        pb_grpc.add_RevocationServiceServicer_to_server(Revocations(self), self._server)
        self.port = self._server.add_secure_port(f"{HOST}:{self.port}", self.material.grpc_server_credentials())
        await self._server.start()

    async def stop(self) -> None:
        """Stop at once; streams break."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.stop(0)

    async def admit(self, method: str, context: Any) -> str:
        """Return the caller's name; abort the call if it is refused."""
        now = datetime.now(UTC)
        identity = grpc_peer_identity(context.auth_context(), TRUST_DOMAIN, now)
        if method in self.cluster.refusals:
            await self.refuse(context, *self.cluster.refusals[method])
        if self.cluster.leader != self.index:
            await self.redirect(context)
        if identity.name in self.cluster.quarantined:
            reason = self.cluster.quarantined[identity.name]
            await self.refuse(context, grpc.StatusCode.PERMISSION_DENIED, f"{identity.name} is quarantined: {reason}")
        return identity.name

    async def redirect(self, context: Any) -> None:
        text, *metadata = self.redirection()
        await self.refuse(context, grpc.StatusCode.FAILED_PRECONDITION, text, *metadata)

    def redirection(self) -> tuple[Any, ...]:
        """Return the message, and the metadata if there is a leader."""
        leader = self.cluster.leader
        if leader is None:
            return ("Not leader, and no leader is known",)
        address = self.cluster.nodes[leader].address
        return f"Not leader, connect to: {address}", ("zkp-leader", address)

    async def refuse(self, context: Any, code: grpc.StatusCode, text: str, *metadata: tuple[str, str]) -> None:
        self.cluster.records.refused.append((code.name, text))
        self.cluster.changed()
        await context.abort(code, text, metadata)


class Tasks(pb_grpc.TaskServiceServicer):
    """The task service of one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cluster = node.cluster

    async def SubmitTask(self, request: pb.SubmitTaskRequest, context: Any) -> pb.SubmitTaskResponse:
        await self.node.admit("SubmitTask", context)
        return self._accept(request.submission)

    async def SubmitTasks(self, request: pb.SubmitTasksRequest, context: Any) -> pb.SubmitTasksResponse:
        await self.node.admit("SubmitTasks", context)
        return pb.SubmitTasksResponse(
            results=[pb.SubmitResult(accepted=self._accept(submission)) for submission in request.submissions]
        )

    async def StreamSubmissions(
        self, request_iterator: AsyncIterator[pb.Submission], context: Any
    ) -> AsyncIterator[pb.SubmitResult]:
        await self.node.admit("StreamSubmissions", context)
        async for submission in request_iterator:
            if self.cluster.leader != self.node.index:
                await self.node.redirect(context)
            yield pb.SubmitResult(accepted=self._accept(submission))

    async def StreamBatches(
        self, request_iterator: AsyncIterator[pb.SubmitTasksRequest], context: Any
    ) -> AsyncIterator[pb.SubmitTasksResponse]:
        await self.node.admit("StreamBatches", context)
        async for request in request_iterator:
            if self.cluster.leader != self.node.index:
                await self.node.redirect(context)
            yield pb.SubmitTasksResponse(
                results=[pb.SubmitResult(accepted=self._accept(submission)) for submission in request.submissions]
            )

    def _accept(self, submission: pb.Submission) -> pb.SubmitTaskResponse:
        self.cluster.records.submissions.append(submission.task_id)
        task, duplicate = self.cluster.submit(submission)
        return pb.SubmitTaskResponse(task=task.message(), duplicate=duplicate)

    async def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.Task:
        await self.node.admit("GetTask", context)
        task = self.cluster.tasks.get(request.task_id)
        if task is None:
            await self.node.refuse(context, grpc.StatusCode.NOT_FOUND, f"there is no task {request.task_id!r}")
            raise AssertionError
        return task.message()

    async def WatchTask(self, request: pb.WatchTaskRequest, context: Any) -> AsyncIterator[pb.Task]:
        await self.node.admit("WatchTask", context)
        task = self.cluster.tasks[request.task_id]
        sent = -1
        while True:
            if self.cluster.leader != self.node.index:
                await self.node.redirect(context)
            if task.revision > sent:
                sent = task.revision
                yield task.message()
                if task.state in (pb.TASK_STATE_COMPLETED, pb.TASK_STATE_FAILED, pb.TASK_STATE_CANCELLED):
                    return
            else:
                await self.cluster.next_change()

    async def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> pb.ListTasksResponse:
        await self.node.admit("ListTasks", context)
        return pb.ListTasksResponse(tasks=[task.message() for task in self.cluster.tasks.values()])

    async def CancelTask(self, request: pb.CancelTaskRequest, context: Any) -> pb.Task:
        await self.node.admit("CancelTask", context)
        task = self.cluster.tasks[request.task_id]
        task.state = pb.TASK_STATE_CANCELLED
        self.cluster.touch(task)
        return task.message()


class Workers(pb_grpc.WorkerServiceServicer):
    """The worker service of one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cluster = node.cluster
        self.records = node.cluster.records

    async def RegisterWorker(self, request: pb.RegisterWorkerRequest, context: Any) -> pb.RegisterWorkerResponse:
        name = await self.node.admit("RegisterWorker", context)
        held = _attempts(request.held)
        mine = self.cluster.leased(name)
        for task_id, _ in mine - held:
            self.cluster.end_lease(task_id)
        self.cluster.incarnations[name] = request.incarnation
        self.records.registrations.append(request)
        self.cluster.changed()
        return pb.RegisterWorkerResponse(
            heartbeat_interval_ms=self.cluster.heartbeat_ms,
            lease_ms=self.cluster.lease_ms,
            dropped=_messages(held - mine),
        )

    async def SendHeartbeat(self, request: pb.HeartbeatRequest, context: Any) -> pb.HeartbeatResponse:
        name = await self.node.admit("SendHeartbeat", context)
        await self._require_registered(name, request.incarnation, context)
        self.records.heartbeats.append(request)
        self.cluster.changed()
        return pb.HeartbeatResponse(dropped=_messages(_attempts(request.held) - self.cluster.leased(name)))

    async def ReceiveTasks(self, request: pb.ReceiveTasksRequest, context: Any) -> AsyncIterator[pb.Assignment]:
        name = await self.node.admit("ReceiveTasks", context)
        await self._require_registered(name, request.incarnation, context)
        await context.send_initial_metadata(())
        self.records.streams.append(name)
        self.cluster.changed()
        sent: set[Attempt] = set()
        while True:
            if self.cluster.leader != self.node.index:
                await self.node.redirect(context)
            for attempt in sorted(self.cluster.leased(name) - sent):
                sent.add(attempt)
                yield self.cluster.assignment(attempt[0])
            await self.cluster.next_change()

    async def StartTask(self, request: pb.StartTaskRequest, context: Any) -> pb.StartTaskResponse:
        await self.node.admit("StartTask", context)
        task = await self._reportable(request, context)
        task.state = pb.TASK_STATE_IN_PROGRESS
        self.records.starts.append((request.task_id, request.attempt))
        self.cluster.touch(task)
        return pb.StartTaskResponse()

    async def ReportCompletion(self, request: pb.CompletionReport, context: Any) -> pb.CompletionResponse:
        await self.node.admit("ReportCompletion", context)
        known = self.cluster.tasks.get(request.task_id)
        if known is not None and known.proof == request.proof and known.attempt == request.attempt:
            return pb.CompletionResponse()  # sent again
        task = await self._reportable(request, context)
        task.state = pb.TASK_STATE_COMPLETED
        task.proof = request.proof
        self.records.completions.append(request)
        self.cluster.touch(task)
        return pb.CompletionResponse()

    async def ReportFailure(self, request: pb.FailureReport, context: Any) -> pb.FailureResponse:
        await self.node.admit("ReportFailure", context)
        task = await self._reportable(request, context)
        again = request.retryable or request.released
        task.state = pb.TASK_STATE_PENDING if again else pb.TASK_STATE_FAILED
        task.worker_id = ""
        task.error = request.error
        self.records.failures.append(request)
        self.cluster.touch(task)
        return pb.FailureResponse()

    async def _require_registered(self, name: str, incarnation: str, context: Any) -> None:
        if self.cluster.incarnations.get(name) != incarnation:
            await self.node.refuse(context, grpc.StatusCode.NOT_FOUND, f"{name} is not registered: register again")

    async def _reportable(self, request: Any, context: Any) -> FakeTask:
        task = self.cluster.tasks.get(request.task_id)
        if task is None:
            await self.node.refuse(context, grpc.StatusCode.NOT_FOUND, f"there is no task {request.task_id!r}")
            raise AssertionError
        if (request.task_id, request.attempt) not in self.cluster.leased(request.worker_id):
            text = f"attempt {request.attempt} of task {request.task_id} is not {request.worker_id}'s any more"
            await self.node.refuse(context, grpc.StatusCode.ABORTED, text)
        return task


class Admin(pb_grpc.AdminServiceServicer):
    """The admin service of one node."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cluster = node.cluster

    async def ClusterStatus(self, request: pb.ClusterStatusRequest, context: Any) -> pb.ClusterStatusResponse:
        leader = self.cluster.leader
        return pb.ClusterStatusResponse(
            answered_by=_name(self.node.index),
            leader="" if leader is None else _name(leader),
            term=1,
            nodes=[
                pb.NodeStatus(
                    id=_name(node.index),
                    grpc_address=node.address,
                    role="leader" if node.index == leader else "follower",
                )
                for node in self.cluster.nodes
            ],
        )

    async def TransferLeadership(
        self, request: pb.TransferLeadershipRequest, context: Any
    ) -> pb.TransferLeadershipResponse:
        await self.node.admit("TransferLeadership", context)
        self.cluster.lead(next(node.index for node in self.cluster.nodes if _name(node.index) == request.to))
        return pb.TransferLeadershipResponse(leader=request.to)

    async def ReleaseWorker(self, request: pb.ReleaseWorkerRequest, context: Any) -> pb.ReleaseWorkerResponse:
        await self.node.admit("ReleaseWorker", context)
        self.cluster.quarantined.pop(request.worker_id, None)
        return pb.ReleaseWorkerResponse()


class Revocations(pb_grpc.RevocationServiceServicer):
    """The revocation service of one node; being followed all the time, it records nothing."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.cluster = node.cluster

    async def WatchRevocations(
        self, request: pb.WatchRevocationsRequest, context: Any
    ) -> AsyncIterator[pb.Revocations]:
        revision, begun = request.after_revision, False
        while True:
            if self.cluster.leader != self.node.index:
                text, *metadata = self.node.redirection()
                await context.abort(grpc.StatusCode.FAILED_PRECONDITION, text, tuple(metadata))
            newer = [one for one in self.cluster.revoked if one.revision > revision]
            if newer or not begun:
                revision, begun = len(self.cluster.revoked), True
                yield pb.Revocations(revocations=newer)
            else:
                await self.cluster.next_change()


def _name(index: int) -> str:
    return f"coordinator-{index + 1}"


def _attempts(messages: Any) -> set[Attempt]:
    return {(message.task_id, message.attempt) for message in messages}


def _messages(attempts: set[Attempt]) -> list[pb.Attempt]:
    return [pb.Attempt(task_id=task_id, attempt=attempt) for task_id, attempt in sorted(attempts)]


async def within(work: Awaitable[Any]) -> Any:
    """Fail instead of hanging."""
    async with asyncio.timeout(WAIT_S):
        return await work
