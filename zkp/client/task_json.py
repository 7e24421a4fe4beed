"""A task as a JSON object, for the HTTPS API and the `--json` output of commands. Pure."""

from datetime import UTC, datetime

from zkp.client.model import Task
from zkp.proofs.document import document


def to_object(task: Task) -> dict[str, object]:
    """Return all fields of a task except its proof, with times as `timestamp` formats them."""
    return {
        "id": task.id,
        "circuit": task.circuit,
        "state": task.state.value,
        "attempt": task.attempt,
        "retries": task.retries,
        "max_retries": task.max_retries,
        "worker_id": task.worker_id,
        "public_inputs": list(task.public_inputs),
        "verifying_key_sha256": task.verifying_key_sha256,
        "error": None if task.error is None else {"code": task.error.code, "message": task.error.message},
        "created_at": timestamp(task.created_at),
        "assigned_at": timestamp(task.assigned_at),
        "started_at": timestamp(task.started_at),
        "finished_at": timestamp(task.finished_at),
    }


def proof_document(task: Task) -> dict[str, object] | None:
    """Return the proof document, which `zkp verify` reads; None if the task has no proof."""
    if task.proof is None or task.verifying_key_sha256 is None:
        return None
    return document(task.id, task.circuit, task.proof, task.public_inputs, task.verifying_key_sha256)


def timestamp(instant: datetime | None) -> str | None:
    """Format a time as RFC 3339 in UTC with milliseconds; None stays None."""
    if instant is None:
        return None
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
