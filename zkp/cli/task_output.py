"""Output of tasks: table rows, JSON objects, proof files."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from zkp.cli import output
from zkp.cli.errors import CommandFailed
from zkp.client import task_json
from zkp.client.model import Task, TaskState
from zkp.proofs import circuits

_COLUMNS = ("id", "circuit", "state", "attempt", "worker", "took", "error")


def show(tasks: Sequence[Task], *, as_json: bool) -> None:
    """Print the tasks as a table or a JSON array."""
    if as_json:
        output.as_json([to_json(task) for task in tasks])
    else:
        output.table("Tasks", _COLUMNS, [_row(task) for task in tasks])


def to_json(task: Task) -> dict[str, object]:
    """Return all fields of a task; `proof` is the proof document of a completed task."""
    proof = None if task.state is not TaskState.COMPLETED else proof_document(task)
    return {**task_json.to_object(task), "proof": proof}


def to_fields(task: Task) -> dict[str, object]:
    """Return the fields of a task for people, without the proof."""
    circuit = circuits.CATALOGUE.get(task.circuit)
    names = circuit.public if circuit is not None else ()
    return {
        "id": task.id,
        "circuit": task.circuit,
        "state": task.state,
        "attempt": task.attempt or None,
        "retries": f"{task.retries} of {task.max_retries}",
        "worker": task.worker_id,
        **dict(zip(names, task.public_inputs, strict=False)),
        "verifying key": task.verifying_key_sha256,
        "error": None if task.error is None else f"{task.error.code}: {task.error.message}",
        "created": task_json.timestamp(task.created_at),
        "assigned": task_json.timestamp(task.assigned_at),
        "started": task_json.timestamp(task.started_at),
        "finished": task_json.timestamp(task.finished_at),
        "took": _took(task),
    }


def proof_document(task: Task) -> dict[str, object]:
    """Return the document that `zkp verify` reads; raises `CommandFailed` if the task has no proof."""
    document = task_json.proof_document(task)
    if document is None:
        raise CommandFailed(f"task {task.id}: has no proof, since it is {task.state}")
    return document


def write_proof(task: Task, path: Path) -> None:
    """Write the proof file of a completed task."""
    text = json.dumps(proof_document(task), indent=2) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandFailed(f"{path}: cannot be written: {error.strerror}") from None


def write_proofs(tasks: Iterable[Task], directory: Path) -> list[Path]:
    """Write DIRECTORY/TASK-ID.json for each completed task."""
    written = []
    for task in tasks:
        if task.state is TaskState.COMPLETED:
            write_proof(task, directory / f"{task.id}.json")
            written.append(directory / f"{task.id}.json")
    return written


def change(task: Task) -> str:
    """Return one version of a task as a line."""
    attempt = f" attempt {task.attempt}" if task.attempt else ""
    worker = f" by {task.worker_id}" if task.worker_id else ""
    error = f": {task.error.code}: {task.error.message}" if task.error else ""
    return f"{task.id} {task.state}{attempt}{worker}{error}"


def _row(task: Task) -> tuple[object, ...]:
    error = "" if task.error is None else f"{task.error.code}: {task.error.message}"
    return task.id, task.circuit, task.state, task.attempt or "", task.worker_id or "", _took(task), error


def _took(task: Task) -> str:
    if task.created_at is None or task.finished_at is None:
        return ""
    return f"{(task.finished_at - task.created_at).total_seconds():.2f}s"
