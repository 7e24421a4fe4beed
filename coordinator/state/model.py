"""The values of the replicated state: immutable, without behaviour other than derived properties.

Times are milliseconds since the Unix epoch as the proposing leader stamped them; 0 means "not yet".
"""

from dataclasses import dataclass
from enum import StrEnum


class TaskState(StrEnum):
    """The state of a task; the last three are final."""

    PENDING = "pending"
    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Return whether the state never changes again."""
        return self in FINAL_STATES

    @property
    def leased(self) -> bool:
        """True while one worker holds the task."""
        return self in LEASED_STATES


FINAL_STATES = frozenset({TaskState.COMPLETED, TaskState.FAILED, TaskState.CANCELLED})
LEASED_STATES = frozenset({TaskState.ASSIGNED, TaskState.IN_PROGRESS})


class AttemptState(StrEnum):
    """The state of one numbered attempt at a task."""

    ASSIGNED = "assigned"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    LOST = "lost"
    RELEASED = "released"
    CANCELLED = "cancelled"


class WorkerState(StrEnum):
    """ONLINE may be assigned tasks; QUARANTINED sent a false proof and waits for an operator."""

    ONLINE = "online"
    OFFLINE = "offline"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Task:
    """One proof to make. Its private inputs are in `State.inputs`, so that what shows a task cannot show them."""

    id: str
    submitter: str
    circuit: str
    public_inputs: tuple[str, ...]
    max_retries: int
    digest: bytes
    """SHA-256 of the submission: distinguishes a repeated one from another one with the same id."""
    verifying_key_sha256: str
    created_ms: int
    state: TaskState = TaskState.PENDING
    attempt: int = 0
    retries: int = 0
    worker_id: str = ""
    term: int = 0
    """Term of the leader that made the current attempt's assignment."""
    proof: bytes = b""
    error_code: str = ""
    error_message: str = ""
    assigned_ms: int = 0
    started_ms: int = 0
    finished_ms: int = 0
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Attempt:
    """One numbered attempt at a task, as it is projected."""

    task_id: str
    attempt: int
    worker_id: str
    term: int
    state: AttemptState
    error_code: str
    error_message: str
    assigned_ms: int
    started_ms: int
    ended_ms: int
    revision: int


@dataclass(frozen=True, slots=True)
class Worker:
    """A machine that proves. `incarnation` changes with every start of its process."""

    id: str
    incarnation: str
    capacity: int
    circuits: frozenset[str]
    version: str
    state: WorkerState
    reason: str
    registered_ms: int
    revision: int
    certificate_serial: str = ""
    """Of the certificate that it registered with, hexadecimal."""


@dataclass(frozen=True, slots=True)
class CircuitState:
    """A statement that can be proved, pinned to one verifying key."""

    name: str
    verifying_key_sha256: str
    registered_ms: int
    revision: int


@dataclass(frozen=True, slots=True)
class Revocation:
    """A revoked certificate. `subject` is its holder as ROLE/NAME, or empty."""

    serial: str
    subject: str
    reason: str
    revoked_ms: int
    not_after_ms: int
    """When it expires anyway."""
    revision: int


class EventKind(StrEnum):
    """The kind of an event; the values appear in logs and in the projection."""

    TASK_SUBMITTED = "task submitted"
    TASK_ASSIGNED = "task assigned"
    TASK_STARTED = "task started"
    TASK_COMPLETED = "task completed"
    TASK_FAILED = "task failed"
    TASK_REQUEUED = "task requeued"
    TASK_CANCELLED = "task cancelled"
    WORKER_REGISTERED = "worker registered"
    WORKER_OFFLINE = "worker offline"
    WORKER_QUARANTINED = "worker quarantined"
    WORKER_RELEASED = "worker released"
    CIRCUIT_REGISTERED = "circuit registered"
    CERTIFICATE_REVOKED = "certificate revoked"


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One change, numbered without gaps by `revision`, with the values as they are after it."""

    revision: int
    at_ms: int
    kind: EventKind
    task: Task | None = None
    attempt: Attempt | None = None
    worker: Worker | None = None
    circuit: CircuitState | None = None
    revocation: Revocation | None = None


class RefusalCode(StrEnum):
    """Why a command changed nothing."""

    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    STALE = "stale"
    NOT_ALLOWED = "not_allowed"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True)
class Rejection:
    """The reason why a command was rejected."""

    code: RefusalCode
    message: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one command did: its events in order, or why it was refused.

    `task` is the task that the command spoke of, as it is now. `dropped` (worker registration) are the
    attempts that the worker named as held and that are no longer its own: (task id, attempt).
    """

    events: tuple[TaskEvent, ...] = ()
    refusal: Rejection | None = None
    task: Task | None = None
    duplicate: bool = False
    dropped: tuple[tuple[str, int], ...] = ()
