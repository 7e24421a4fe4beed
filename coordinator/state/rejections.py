"""Outcomes of commands that are rejected. Their messages are replicated: do not change them within a version."""

from coordinator.state.model import Outcome, RefusalCode, Rejection, Task


def refused(code: RefusalCode, message: str, task: Task | None = None) -> Outcome:
    """Return the outcome of a command that is rejected."""
    return Outcome(refusal=Rejection(code, message), task=task)


def no_task(task_id: str) -> Outcome:
    """Return the outcome of a command for an unknown task."""
    return refused(RefusalCode.NOT_FOUND, f"there is no task {task_id}")


def no_worker(worker_id: str) -> Outcome:
    """Return the outcome of a command for an unknown worker."""
    return refused(RefusalCode.NOT_FOUND, f"worker {worker_id} is not registered")


def stale(task: Task, attempt: int) -> Outcome:
    """Return the outcome of a report about an attempt that is over."""
    return refused(
        RefusalCode.STALE,
        f"attempt {attempt} of task {task.id} is over: the task is {task.state} in attempt {task.attempt}",
        task,
    )
