"""Tasks as callers read them. Pure: the client library's records in, JSON objects out."""

from zkp.client import task_json
from zkp.client.model import Accepted, Task
from zkp.proofs import snarkjs

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
    return {**task_json.to_object(task), "links": links(task.id)}


def detail(task: Task) -> dict[str, object]:
    """A task by itself: with the proof, once it is completed."""
    return {**summary(task), "proof": None if task.proof is None else snarkjs.to_object(task.proof)}


def links(task_id: str) -> dict[str, str]:
    """Where to go on from a task."""
    path = path_of(task_id)
    return {"self": path, "wait": f"{path}?wait=60", "proof": f"{path}/proof"}
