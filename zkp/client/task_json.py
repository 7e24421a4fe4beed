"""A task as a JSON object: what the API, the `--json` of commands and their readers have in common. Pure."""

from datetime import UTC, datetime

from zkp.client.model import Task
from zkp.proofs.document import document


def to_object(task: Task) -> dict[str, object]:
    """Everything that the network says of a task, except its proof; moments as `moment` writes them."""
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
        "created_at": moment(task.created_at),
        "assigned_at": moment(task.assigned_at),
        "started_at": moment(task.started_at),
        "finished_at": moment(task.finished_at),
    }


def proof_document(task: Task) -> dict[str, object] | None:
    """What `zkp verify` reads; None of a task without a proof."""
    if task.proof is None or task.verifying_key_sha256 is None:
        return None
    return document(task.id, task.circuit, task.proof, task.public_inputs, task.verifying_key_sha256)


def moment(instant: datetime | None) -> str | None:
    """RFC 3339 in UTC with milliseconds; None for what has not happened."""
    if instant is None:
        return None
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
