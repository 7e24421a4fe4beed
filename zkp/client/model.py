"""What the network answers with, as frozen values with types.

The one place that reads tasks out of messages.
"""

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
    """Where a task is on its way."""

    PENDING = "pending"
    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Nothing more will happen to a task in this state."""
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
    """The state as messages carry it; None is "every state"."""
    return pb.TaskState.ValueType(0 if state is None else _STATE_NUMBERS[state])


@dataclass(frozen=True, slots=True)
class TaskError:
    """Why the last attempt, or the task, failed."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Task:
    """A task as clients see it. Times have a time zone; what has not happened yet is None."""

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
        """Raises `ServerFault` for a state that this version does not know."""
        state = _STATES.get(message.state)
        if state is None:
            raise ServerFault(
                f"task {message.id} is in state {message.state}, unknown to this version: upgrade the client"
            )
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
    """What is asked of the network. `inputs` are private, and shown nowhere.

    `task_id` is the idempotency key: the same submission sent again is the same task. `inputs` and
    `public_inputs` come from `proofs.circuits.prepare`. `max_retries` None: the coordinator's default.
    """

    task_id: str
    circuit: str
    inputs: bytes = field(repr=False)
    public_inputs: tuple[str, ...]
    max_retries: int | None = None

    def message(self) -> pb.Submission:
        """As the API takes it."""
        return pb.Submission(
            task_id=self.task_id,
            circuit=self.circuit,
            inputs=self.inputs,
            public_inputs=self.public_inputs,
            max_retries=self.max_retries,
        )


@dataclass(frozen=True, slots=True)
class Accepted:
    """A quorum has the task.

    `duplicate`: it had it before this call (or this call was repeated on the way).
    """

    task: Task
    duplicate: bool

    @classmethod
    def read(cls, message: pb.SubmitTaskResponse) -> Self:
        """Raises `ServerFault` as `Task.read` does."""
        return cls(Task.read(message.task), message.duplicate)


@dataclass(frozen=True, slots=True)
class TaskPage:
    """Some tasks, newest first; `next_token` is empty on the last page."""

    tasks: tuple[Task, ...]
    next_token: str


def timestamp(message: pb.Task | pb.WorkerStatus | pb.Revocation, name: str) -> datetime | None:
    """A time stamp field as a datetime in UTC; None when it is not set."""
    if not message.HasField(name):  # type: ignore[arg-type]  # the stub wants literals; callers here give them
        return None
    stamp: Timestamp = getattr(message, name)
    return stamp.ToDatetime(tzinfo=UTC)
