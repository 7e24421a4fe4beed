"""Log lines for events of tasks, workers and certificates: each is logged once per cluster, by the leader.

Inputs and proofs are never logged. Events that occur thousands of times per second are logged at debug level.
"""

import logging
from collections.abc import Sequence

from coordinator.state.model import EventKind, Task, TaskEvent

log = logging.getLogger("zkp.coordinator")

_LEVELS = {
    EventKind.TASK_SUBMITTED: logging.DEBUG,
    EventKind.TASK_ASSIGNED: logging.DEBUG,
    EventKind.TASK_STARTED: logging.DEBUG,
    EventKind.TASK_COMPLETED: logging.INFO,
    EventKind.TASK_CANCELLED: logging.INFO,
    EventKind.TASK_REQUEUED: logging.WARNING,
    EventKind.TASK_FAILED: logging.WARNING,
    EventKind.WORKER_REGISTERED: logging.INFO,
    EventKind.WORKER_RELEASED: logging.INFO,
    EventKind.CIRCUIT_REGISTERED: logging.INFO,
    EventKind.CERTIFICATE_REVOKED: logging.WARNING,
    EventKind.WORKER_OFFLINE: logging.WARNING,
    EventKind.WORKER_QUARANTINED: logging.ERROR,
}


def write(events: Sequence[TaskEvent], term: int) -> None:
    """Log one line per event. `term` is the leader's."""
    for event in events:
        level = _LEVELS[event.kind]
        if log.isEnabledFor(level):
            log.log(level, "%s", _sentence(event), extra=_fields(event, term))


def _sentence(event: TaskEvent) -> str:
    words = [str(event.kind)]
    if event.attempt is not None:
        words.append(f"in attempt {event.attempt.attempt}")
    if event.circuit is not None:
        words.append(f"{event.circuit.name}, verifying key {event.circuit.verifying_key_sha256}")
    if event.revocation is not None:
        words += filter(None, (event.revocation.serial, event.revocation.subject, event.revocation.reason))
    if event.worker is not None and event.worker.reason:
        words.append(event.worker.reason)
    if event.kind is EventKind.TASK_COMPLETED and event.task is not None:
        words.append(_took(event.task))
    if event.kind in _WITH_REASON and event.task is not None:
        words.append(f"{event.task.error_code}: {event.task.error_message}")
    return ", ".join(words)


def _took(task: Task) -> str:
    """Return queue and proving times: at level info no other line of the coordinators has them."""
    began = task.started_ms or task.assigned_ms
    waited, proved = task.assigned_ms - task.created_ms, task.finished_ms - began
    return f"assigned after {waited} ms, proved in {proved} ms"


_WITH_REASON = frozenset({EventKind.TASK_REQUEUED, EventKind.TASK_FAILED})


def _fields(event: TaskEvent, term: int) -> dict[str, object]:
    fields: dict[str, object] = {"term": term}
    if event.task is not None:
        fields["task_id"] = event.task.id
        fields["circuit"] = event.task.circuit
    if event.attempt is not None:
        fields["worker_id"] = event.attempt.worker_id
        fields["attempt"] = event.attempt.attempt
    if event.worker is not None:
        fields["worker_id"] = event.worker.id
    return fields
