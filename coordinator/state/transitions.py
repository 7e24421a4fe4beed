"""The transitions of a task, in one table."""

from enum import Enum

from coordinator.state.model import EventKind, TaskState


class Move(Enum):
    """What can happen to a task after it was submitted."""

    ASSIGN = "assign"
    START = "start"
    COMPLETE = "complete"
    REQUEUE = "requeue"
    FAIL = "fail"
    CANCEL = "cancel"


# All transitions of a task. Any other transition is impossible.
# A proof may arrive for an attempt whose start report was lost: assigned → completed.
TRANSITIONS: dict[tuple[TaskState, Move], TaskState] = {
    (TaskState.PENDING, Move.ASSIGN): TaskState.ASSIGNED,
    (TaskState.PENDING, Move.CANCEL): TaskState.CANCELLED,
    (TaskState.ASSIGNED, Move.START): TaskState.IN_PROGRESS,
    (TaskState.ASSIGNED, Move.COMPLETE): TaskState.COMPLETED,
    (TaskState.ASSIGNED, Move.REQUEUE): TaskState.PENDING,
    (TaskState.ASSIGNED, Move.FAIL): TaskState.FAILED,
    (TaskState.ASSIGNED, Move.CANCEL): TaskState.CANCELLED,
    (TaskState.IN_PROGRESS, Move.COMPLETE): TaskState.COMPLETED,
    (TaskState.IN_PROGRESS, Move.REQUEUE): TaskState.PENDING,
    (TaskState.IN_PROGRESS, Move.FAIL): TaskState.FAILED,
    (TaskState.IN_PROGRESS, Move.CANCEL): TaskState.CANCELLED,
}

EVENT_OF_MOVE = {
    Move.ASSIGN: EventKind.TASK_ASSIGNED,
    Move.START: EventKind.TASK_STARTED,
    Move.COMPLETE: EventKind.TASK_COMPLETED,
    Move.REQUEUE: EventKind.TASK_REQUEUED,
    Move.FAIL: EventKind.TASK_FAILED,
    Move.CANCEL: EventKind.TASK_CANCELLED,
}
