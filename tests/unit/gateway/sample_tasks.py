"""Sample tasks in several states."""

from dataclasses import replace
from datetime import UTC, datetime

from zkp.client.model import Task, TaskError, TaskState

CREATED = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
PENDING = Task(
    id="t-1",
    circuit="addition",
    state=TaskState.PENDING,
    attempt=0,
    retries=0,
    max_retries=3,
    worker_id=None,
    public_inputs=("42",),
    proof=None,
    verifying_key_sha256=None,
    error=None,
    created_at=CREATED,
    assigned_at=None,
    started_at=None,
    finished_at=None,
    revision=1,
)
COMPLETED = replace(
    PENDING,
    state=TaskState.COMPLETED,
    attempt=1,
    worker_id="worker-1",
    proof=(bytes(16) + bytes(range(1, 17))) * 8,
    verifying_key_sha256="ab" * 32,
    assigned_at=CREATED,
    started_at=CREATED,
    finished_at=CREATED,
    revision=4,
)
FAILED = replace(PENDING, state=TaskState.FAILED, error=TaskError("unsatisfied_inputs", "final"), finished_at=CREATED)
