"""Conversion of a batch of events to the columns of the statements in `queries.sql`. Pure.

Only the last after-image of each task, attempt, worker, circuit and revocation in a batch is written: the result is
the same as that of all events in order, with fewer rows.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from coordinator.state.model import Attempt, CircuitState, Revocation, Task, TaskEvent, TaskState, Worker
from coordinator.store.errors import ProjectionBehind

Columns = Mapping[str, list[object]]
"""One list per column, all of the same length: the parameters of an INSERT … SELECT FROM unnest."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The last after-images of consecutive events, and the position of the projection after the write."""

    revision: int
    fingerprint: bytes
    tasks: Mapping[str, Task] = field(repr=False)
    attempts: Mapping[tuple[str, int], Attempt] = field(repr=False)
    workers: Mapping[str, Worker] = field(repr=False)
    circuits: Mapping[str, CircuitState] = field(repr=False)
    revocations: Mapping[str, Revocation] = field(repr=False)


def collapse(events: Sequence[TaskEvent], after: int) -> Batch:
    """Return the batch of `events`, at least one, whose revisions must be after + 1, after + 2, ….

    Raises:
        ProjectionBehind: An event is missing.
    """
    tasks: dict[str, Task] = {}
    attempts: dict[tuple[str, int], Attempt] = {}
    workers: dict[str, Worker] = {}
    circuits: dict[str, CircuitState] = {}
    revocations: dict[str, Revocation] = {}
    for expected, event in enumerate(events, start=after + 1):
        if event.revision != expected:
            raise ProjectionBehind(
                f"event {expected} is neither in the projection nor in the cluster: restore a newer backup"
            )
        if event.task is not None:
            tasks[event.task.id] = event.task
        if event.attempt is not None:
            attempts[event.attempt.task_id, event.attempt.attempt] = event.attempt
        if event.worker is not None:
            workers[event.worker.id] = event.worker
        if event.circuit is not None:
            circuits[event.circuit.name] = event.circuit
        if event.revocation is not None:
            revocations.setdefault(event.revocation.serial, event.revocation)
    return Batch(events[-1].revision, fingerprint(events[-1]), tasks, attempts, workers, circuits, revocations)


def fingerprint(event: TaskEvent) -> bytes:
    """Return a SHA-256 (32 bytes) that distinguishes this event from that of another history at the same revision.

    It must be the same in every release: its inputs are fixed.
    """
    task, attempt, worker, circuit = event.task, event.attempt, event.worker, event.circuit
    parts: list[object] = [event.revision, event.at_ms, str(event.kind)]
    parts.append([task.id, str(task.state), task.attempt, task.term] if task else None)
    parts.append([attempt.attempt, str(attempt.state)] if attempt else None)
    parts.append([worker.id, worker.incarnation, str(worker.state)] if worker else None)
    parts.append([circuit.name, circuit.verifying_key_sha256] if circuit else None)
    if event.revocation:  # added later; the fingerprints of other events must not change
        parts.append([event.revocation.serial])
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).digest()


def sanitize_text(text: str) -> str:
    """Return the text with NUL and lone surrogates replaced by U+FFFD, since PostgreSQL cannot store them.

    Free text comes from workers and clients. An invalid character in it must not stop the projection.
    """
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def task_columns(tasks: Iterable[Task]) -> Columns:
    """Return the columns of `write_tasks`, without private inputs or the digest, which could confirm a guess."""
    rows = list(tasks)
    return {
        "id": [sanitize_text(task.id) for task in rows],
        "submitter": [sanitize_text(task.submitter) for task in rows],
        "circuit": [sanitize_text(task.circuit) for task in rows],
        "public_inputs": [_array(task.public_inputs) for task in rows],
        "verifying_key_sha256": [sanitize_text(task.verifying_key_sha256) for task in rows],
        "max_retries": [task.max_retries for task in rows],
        "state": [str(task.state) for task in rows],
        "attempt": [task.attempt for task in rows],
        "retries": [task.retries for task in rows],
        "worker_id": [sanitize_text(task.worker_id) for task in rows],
        "term": [task.term for task in rows],
        "proof": [task.proof if task.state is TaskState.COMPLETED else None for task in rows],
        "error_code": [sanitize_text(task.error_code) for task in rows],
        "error_message": [sanitize_text(task.error_message) for task in rows],
        "created_ms": [task.created_ms for task in rows],
        "assigned_ms": [task.assigned_ms for task in rows],
        "started_ms": [task.started_ms for task in rows],
        "finished_ms": [task.finished_ms for task in rows],
        "revision": [task.revision for task in rows],
    }


def attempt_columns(attempts: Iterable[Attempt]) -> Columns:
    """Return the columns of `write_attempts`."""
    rows = list(attempts)
    return {
        "task_id": [sanitize_text(attempt.task_id) for attempt in rows],
        "attempt": [attempt.attempt for attempt in rows],
        "worker_id": [sanitize_text(attempt.worker_id) for attempt in rows],
        "term": [attempt.term for attempt in rows],
        "state": [str(attempt.state) for attempt in rows],
        "error_code": [sanitize_text(attempt.error_code) for attempt in rows],
        "error_message": [sanitize_text(attempt.error_message) for attempt in rows],
        "assigned_ms": [attempt.assigned_ms for attempt in rows],
        "started_ms": [attempt.started_ms for attempt in rows],
        "ended_ms": [attempt.ended_ms for attempt in rows],
        "revision": [attempt.revision for attempt in rows],
    }


def worker_columns(workers: Iterable[Worker]) -> Columns:
    """Return the columns of `write_workers`."""
    rows = list(workers)
    return {
        "id": [sanitize_text(worker.id) for worker in rows],
        "incarnation": [sanitize_text(worker.incarnation) for worker in rows],
        "capacity": [worker.capacity for worker in rows],
        "circuits": [_array(sorted(worker.circuits)) for worker in rows],
        "version": [sanitize_text(worker.version) for worker in rows],
        "state": [str(worker.state) for worker in rows],
        "reason": [sanitize_text(worker.reason) for worker in rows],
        "registered_ms": [worker.registered_ms for worker in rows],
        "revision": [worker.revision for worker in rows],
    }


def circuit_columns(circuits: Iterable[CircuitState]) -> Columns:
    """Return the columns of `write_circuits`."""
    rows = list(circuits)
    return {
        "name": [sanitize_text(circuit.name) for circuit in rows],
        "verifying_key_sha256": [sanitize_text(circuit.verifying_key_sha256) for circuit in rows],
        "registered_ms": [circuit.registered_ms for circuit in rows],
        "revision": [circuit.revision for circuit in rows],
    }


def revocation_columns(revocations: Iterable[Revocation]) -> Columns:
    """Return the columns of `write_revocations`."""
    rows = list(revocations)
    return {
        "serial": [revocation.serial for revocation in rows],
        "subject": [sanitize_text(revocation.subject) for revocation in rows],
        "reason": [sanitize_text(revocation.reason) for revocation in rows],
        "revoked_ms": [revocation.revoked_ms for revocation in rows],
        "not_after_ms": [revocation.not_after_ms for revocation in rows],
        "revision": [revocation.revision for revocation in rows],
    }


def _array(values: Iterable[str]) -> str:
    # As JSON: PostgreSQL does not accept an array of arrays of different lengths.
    return json.dumps([sanitize_text(value) for value in values], ensure_ascii=False)
