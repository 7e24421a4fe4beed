"""JSON representation of tasks. Pure: from the client library's model to JSON objects."""

from zkp.client import task_json
from zkp.client.model import Accepted, Task
from zkp.proofs import snarkjs

TASKS_PATH = "/api/v1/tasks"


def path_of(task_id: str) -> str:
    """Return the path of a task."""
    return f"{TASKS_PATH}/{task_id}"


def accepted(answer: Accepted, *, generated_blinding: str | None) -> dict[str, object]:
    """Return the response to a submission.

    Args:
        answer: The coordinators' answer.
        generated_blinding: The blinding generated for the caller, if any; a secret that only this response contains.
    """
    task = answer.task
    members: dict[str, object] = {
        "id": task.id,
        "circuit": task.circuit,
        "state": task.state.value,
        "duplicate": answer.duplicate,
        "public_inputs": list(task.public_inputs),
        "links": links(task.id),
    }
    if generated_blinding is not None:
        members["blinding"] = generated_blinding
    return members


def summary(task: Task) -> dict[str, object]:
    """Return a task as a list item: everything except the proof."""
    return {**task_json.to_object(task), "links": links(task.id)}


def detail(task: Task) -> dict[str, object]:
    """Return a single task, with the proof if it is completed."""
    return {**summary(task), "proof": None if task.proof is None else snarkjs.to_object(task.proof)}


def links(task_id: str) -> dict[str, str]:
    """Return the links of a task."""
    path = path_of(task_id)
    return {"self": path, "wait": f"{path}?wait=60", "proof": f"{path}/proof"}
