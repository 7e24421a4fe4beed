"""Tasks as callers read them. Pure: the client library's records in, JSON objects out."""

from datetime import datetime

from client.records import Accepted, Task
from proofs import snarkjs

TASKS_PATH = "/api/v1/tasks"


def path_of(task_id: str) -> str:
    """Where a task is found."""
    return f"{TASKS_PATH}/{task_id}"


def accepted(answer: Accepted, *, drawn_blinding: str | None) -> dict[str, object]:
    """The answer to a submission. `drawn_blinding` was drawn for the caller, who alone ever gets it."""
    task = answer.task
    members: dict[str, object] = {
        "id": task.id,
        "circuit": task.circuit,
        "state": task.state.value,
        "duplicate": answer.duplicate,
        "public_inputs": list(task.public_inputs),
        "links": links(task.id),
    }
    if drawn_blinding is not None:
        members["blinding"] = drawn_blinding
    return members


def summary(task: Task) -> dict[str, object]:
    """A task in a list: everything but the proof."""
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
        "created_at": _moment(task.created_at),
        "assigned_at": _moment(task.assigned_at),
        "started_at": _moment(task.started_at),
        "finished_at": _moment(task.finished_at),
        "links": links(task.id),
    }


def detail(task: Task) -> dict[str, object]:
    """A task by itself: with the proof, once it is completed."""
    return {**summary(task), "proof": None if task.proof is None else snarkjs.to_object(task.proof)}


def proof_document(task: Task, proof: bytes) -> dict[str, object]:
    """What `zkp verify` reads, of a completed task: the fields that `proofs.document` writes, and no others.

    Written out here because that module loads the prover library, which a gateway does not need.
    """
    return {
        "circuit": task.circuit,
        "proof": snarkjs.to_object(proof),
        "public_inputs": list(task.public_inputs),
        "task_id": task.id,
        "verifying_key_sha256": task.verifying_key_sha256,
    }


def links(task_id: str) -> dict[str, str]:
    """Where to go on from a task."""
    path = path_of(task_id)
    return {"self": path, "wait": f"{path}?wait=60", "proof": f"{path}/proof"}


def _moment(moment: datetime | None) -> str | None:
    """RFC 3339 in UTC with milliseconds; None for what has not happened."""
    return None if moment is None else moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
