"""The public API, `from zkp.client import Client`, against doubles."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

import zkp.client
from tests.unit.client.network import A, B, C, Network, Node, follower
from zkp.client import Client
from zkp.client.errors import InvalidAddress, NotFound
from zkp.client.failures import CallFailed
from zkp.client.model import Task, TaskState
from zkp.proofs import InputError
from zkp.protocol.v1 import coordinator_pb2 as pb


class TaskService:
    """A leader that stores submissions and completes each task when it is watched."""

    def __init__(self) -> None:
        self.tasks: dict[str, pb.Task] = {}
        self.submissions: list[pb.Submission] = []

    def node(self) -> Node:
        return Node(
            SubmitTask=self.submit,
            GetTask=self.get,
            WatchTask=self.watch,
            ListTasks=self.list,
            CancelTask=self.cancel,
        )

    async def submit(self, request: pb.SubmitTaskRequest) -> pb.SubmitTaskResponse:
        message = request.submission
        self.submissions.append(message)
        task = pb.Task(
            id=message.task_id,
            circuit=message.circuit,
            state=pb.TASK_STATE_PENDING,
            public_inputs=message.public_inputs,
            revision=1,
        )
        self.tasks[task.id] = task
        return pb.SubmitTaskResponse(task=task)

    async def get(self, request: pb.GetTaskRequest) -> pb.Task:
        if request.task_id not in self.tasks:
            raise CallFailed(grpc.StatusCode.NOT_FOUND, f"task {request.task_id} is unknown")
        return self.tasks[request.task_id]

    async def watch(self, request: pb.WatchTaskRequest) -> Any:
        task = self.tasks[request.task_id]
        yield task
        task.state, task.revision, task.proof = pb.TASK_STATE_COMPLETED, 2, b"\1" * 256
        yield task

    async def list(self, request: pb.ListTasksRequest) -> pb.ListTasksResponse:
        return pb.ListTasksResponse(tasks=list(self.tasks.values())[: request.page_size])

    async def cancel(self, request: pb.CancelTaskRequest) -> pb.Task:
        task = self.tasks[request.task_id]
        task.state = pb.TASK_STATE_CANCELLED
        return task


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> TaskService:
    """The network that every `Client` reaches: the leader is the last address."""
    service = TaskService()
    network = Network({A: follower(C), B: follower(C), C: service.node()})
    module = sys.modules[Client.__module__]
    material: Any = None
    monkeypatch.setattr(module, "LeaderConnection", lambda addresses, _: network.connect(*addresses))
    monkeypatch.setattr(module.TlsMaterial, "load", lambda _: material)
    return service


def test_a_submitted_task_is_prepared_and_waited_for(service: TaskService, tmp_path: Path) -> None:
    """Inputs become public inputs and a random id; the task ends with its proof."""

    async def scenario() -> Task:
        async with Client([A, B, C], tmp_path) as client:
            submitted = await client.submit("addition", {"a": 20, "b": 22})
            assert submitted.state is TaskState.PENDING
            assert submitted.public_inputs == ("42",)
            return await client.wait(submitted.id)

    done = asyncio.run(scenario())
    assert done.state is TaskState.COMPLETED
    assert done.proof == b"\1" * 256
    assert service.submissions[0].task_id == done.id


def test_id_and_retries_are_sent_as_given(service: TaskService, tmp_path: Path) -> None:
    """The task id is the caller's idempotency key."""

    async def scenario() -> None:
        async with Client([A, B, C], tmp_path) as client:
            await client.submit("addition", {"a": 1, "b": 2}, task_id="mine", max_retries=0)

    asyncio.run(scenario())
    assert service.submissions[0].task_id == "mine"
    assert service.submissions[0].HasField("max_retries")
    assert service.submissions[0].max_retries == 0


def test_tasks_are_read_listed_and_cancelled(service: TaskService, tmp_path: Path) -> None:
    """`get`, `list` and `cancel` return tasks; an unknown id raises `NotFound`."""

    async def scenario() -> None:
        async with Client([A, B, C], str(tmp_path)) as client:
            for task_id in ("t-1", "t-2"):
                await client.submit("addition", {"a": 1, "b": 2}, task_id=task_id)
            assert (await client.get("t-1")).id == "t-1"
            assert [task.id for task in await client.list(limit=1)] == ["t-1"]
            assert (await client.cancel("t-2")).state is TaskState.CANCELLED
            with pytest.raises(NotFound):
                await client.get("t-3")

    asyncio.run(scenario())


def test_an_invalid_input_is_not_sent(service: TaskService, tmp_path: Path) -> None:
    """`InputError` names the field, and nothing has been submitted."""

    async def scenario() -> None:
        async with Client([A, B, C], tmp_path) as client:
            with pytest.raises(InputError) as caught:
                await client.submit("addition", {"a": 1, "b": -2})
            assert caught.value.field == "b"

    asyncio.run(scenario())
    assert service.submissions == []


def test_an_invalid_address_is_refused_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Addresses are checked by the constructor."""
    material: Any = None
    module = sys.modules[Client.__module__]
    monkeypatch.setattr(module.TlsMaterial, "load", lambda _: material)
    monkeypatch.setattr("zkp.client.leader.TlsDialer", lambda _: None)
    with pytest.raises(InvalidAddress):
        Client(["unix:/run/socket"], tmp_path)


def test_importing_the_package_does_not_load_grpc() -> None:
    """`Client` is loaded at its first use."""
    program = "import sys, zkp.client, zkp.client.backoff; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_package_has_no_other_attribute() -> None:
    """A misspelled name is an `AttributeError`, as for any module."""
    with pytest.raises(AttributeError, match="no attribute 'Cleint'"):
        _ = zkp.client.Cleint  # type: ignore[attr-defined]  # misspelled on purpose
