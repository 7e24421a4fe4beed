"""Tasks, submissions and results as frozen values, and their conversion from and to messages."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Self

from google.protobuf.timestamp_pb2 import Timestamp

from zkp.client.errors import ServerFault
from zkp.protocol.v1 import coordinator_pb2 as pb


class TaskState(StrEnum):
    """State of a task."""

    PENDING = "pending"
    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether the state is terminal."""
        return self in (TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED)


_STATES: Mapping[int, TaskState] = MappingProxyType(
    {
        pb.TASK_STATE_PENDING: TaskState.PENDING,
        pb.TASK_STATE_ASSIGNED: TaskState.ASSIGNED,
        pb.TASK_STATE_IN_PROGRESS: TaskState.IN_PROGRESS,
        pb.TASK_STATE_COMPLETED: TaskState.COMPLETED,
        pb.TASK_STATE_FAILED: TaskState.FAILED,
        pb.TASK_STATE_CANCELLED: TaskState.CANCELLED,
    }
)
_STATE_NUMBERS: Mapping[TaskState, int] = MappingProxyType({state: number for number, state in _STATES.items()})


def state_number(state: TaskState | None) -> "pb.TaskState.ValueType":
    """Return the state's number in messages; None stands for every state."""
    return pb.TaskState.ValueType(0 if state is None else _STATE_NUMBERS[state])


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why the last attempt, or the task, failed."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Task:
    """A task. Times are in UTC; those of events that have not happened are None."""

    id: str
    circuit: str
    state: TaskState
    attempt: int
    retries: int
    max_retries: int
    worker_id: str | None
    public_inputs: tuple[str, ...]
    proof: bytes | None = field(repr=False)
    verifying_key_sha256: str | None
    error: TaskError | None
    created_at: datetime | None
    assigned_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    revision: int

    @classmethod
    def read(cls, message: pb.Task) -> Self:
        """Convert a message; raises `ServerFault` for an unknown state."""
        state = _STATES.get(message.state)
        if state is None:
            raise ServerFault(f"task {message.id}: unknown state {message.state}; upgrade the client")
        return cls(
            id=message.id,
            circuit=message.circuit,
            state=state,
            attempt=message.attempt,
            retries=message.retries,
            max_retries=message.max_retries,
            worker_id=message.worker_id or None,
            public_inputs=tuple(message.public_inputs),
            proof=message.proof or None,
            verifying_key_sha256=message.verifying_key_sha256 or None,
            error=TaskError(message.error.code, message.error.message) if message.HasField("error") else None,
            created_at=timestamp(message, "created_at"),
            assigned_at=timestamp(message, "assigned_at"),
            started_at=timestamp(message, "started_at"),
            finished_at=timestamp(message, "finished_at"),
            revision=message.revision,
        )


@dataclass(frozen=True, slots=True)
class Submission:
    """A request for a proof. `inputs` are private and never shown.

    `task_id` is the idempotency key: a repeated submission is the same task. `inputs` and `public_inputs` come from
    `zkp.proofs.circuits.prepare`. `max_retries` None selects the coordinator's default.
    """

    task_id: str
    circuit: str
    inputs: bytes = field(repr=False)
    public_inputs: tuple[str, ...]
    max_retries: int | None = None

    def message(self) -> pb.Submission:
        """Return the submission as a message."""
        return pb.Submission(
            task_id=self.task_id,
            circuit=self.circuit,
            inputs=self.inputs,
            public_inputs=self.public_inputs,
            max_retries=self.max_retries,
        )


@dataclass(frozen=True, slots=True)
class Accepted:
    """A task that a quorum has stored.

    `duplicate`: it was stored before this call, or by an earlier try of this call.
    """

    task: Task
    duplicate: bool

    @classmethod
    def read(cls, message: pb.SubmitTaskResponse) -> Self:
        """Convert a message; raises `ServerFault` as `Task.read` does."""
        return cls(Task.read(message.task), message.duplicate)


@dataclass(frozen=True, slots=True)
class TaskPage:
    """One page of tasks, newest first; `next_token` is empty on the last page."""

    tasks: tuple[Task, ...]
    next_token: str


def timestamp(message: pb.Task | pb.WorkerStatus | pb.Revocation, name: str) -> datetime | None:
    """Return a timestamp field as a datetime in UTC; None if it is not set."""
    if not message.HasField(name):  # type: ignore[arg-type]  # the stub wants literals; callers here give them
        return None
    stamp: Timestamp = getattr(message, name)
    return stamp.ToDatetime(tzinfo=UTC)
