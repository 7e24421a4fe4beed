"""Task and worker metrics.

Totals and times are observed by the leader alone, from applied events, so that their sum over the nodes is what the
cluster did. Gauges of the replicated state are the same on every node: take one node's, as `max` does.

No label has more values than the network has circuits, states or known reasons: workers can name any error code, and
those that are not known here count as "other".
"""

import time
from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.replication.replicator import Replicator
from coordinator.state.machine import State
from coordinator.state.model import AttemptState, EventKind, Task, TaskEvent, TaskState, WorkerState
from zkp.proofs import circuits

_FINISHED = {
    EventKind.TASK_COMPLETED: "completed",
    EventKind.TASK_FAILED: "failed",
    EventKind.TASK_CANCELLED: "cancelled",
}
REASONS = frozenset(
    {
        "unsatisfied_inputs",
        "invalid_inputs",
        "prover_failed",
        "out_of_memory",
        "timeout",
        "key_mismatch",
        "worker_failed",
        "lease_lost",
        "worker_quarantined",
    }
)
OTHER = "other"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class TaskMetrics:
    """Counters and histograms; `observe` feeds them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(name, text, ["circuit"], buckets=_SECONDS, registry=registry)

        self._submitted = counter("zkp_tasks_submitted", "Tasks accepted while this node led.", "circuit")
        self._finished = counter(
            "zkp_tasks_finished", "Tasks that ended while this node led, by final state.", "circuit", "state"
        )
        self._failed = counter(
            "zkp_tasks_failed",
            "Failed tasks by the last attempt's error. unsatisfied_inputs is the client's mistake, others are ours.",
            "circuit",
            "reason",
        )
        self._retries = counter(
            "zkp_task_retries", "Tasks queued again after an attempt without a proof.", "circuit", "reason"
        )
        self._attempts = counter(
            "zkp_attempts_ended", "Attempts that ended while this node was leader; lost ones were revoked.", "state"
        )
        self._lease_losses = counter(
            "zkp_lease_losses",
            "Attempts revoked from their worker. lease_lost: heartbeat timeout; timeout: the attempt exceeded "
            "its time limit.",
            "reason",
        )
        self._quarantines = counter("zkp_workers_quarantined", "Workers quarantined while this node led.")
        self._checked = counter(
            "zkp_proofs_checked",
            "Proofs verified with the verifying key, by outcome. An invalid one means an attack or a faulty machine.",
            "circuit",
            "outcome",
        )
        self._waited = histogram(
            "zkp_task_queue_wait_seconds", "From submission to the first assignment. Long: add workers."
        )
        self._proving = histogram(
            "zkp_task_proving_seconds", "From the start of the accepted attempt to its completion."
        )
        self._duration = histogram("zkp_task_duration_seconds", "From submission to completion, of completed tasks.")
        self._start_at_zero()

    def _start_at_zero(self) -> None:
        """A counter that appears with its first increment hides just that one from `increase`."""
        for circuit in circuits.NAMES:
            self._submitted.labels(circuit)
            for state in _FINISHED.values():
                self._finished.labels(circuit, state)
            for outcome in ("valid", "false"):
                self._checked.labels(circuit, outcome)
            for reason in (*REASONS, OTHER):
                self._failed.labels(circuit, reason)
                self._retries.labels(circuit, reason)
        for reason in ("lease_lost", "timeout", "worker_quarantined", OTHER):
            self._lease_losses.labels(reason)

    def checked(self, circuit: str, valid: bool) -> None:
        """Count a proof that was checked."""
        self._checked.labels(circuit, "valid" if valid else "false").inc()

    def observe(self, events: Sequence[TaskEvent]) -> None:
        """Count what happened. For the leader's events only."""
        for event in events:
            if event.kind is EventKind.WORKER_QUARANTINED:
                self._quarantines.inc()
            elif event.task is not None:
                self._observe_task(event.kind, event.task)
            if event.attempt is not None and event.attempt.ended_ms:
                self._attempts.labels(str(event.attempt.state)).inc()
                if event.attempt.state is AttemptState.LOST:
                    self._lease_losses.labels(known_reason(event.attempt.error_code)).inc()

    def _observe_task(self, kind: EventKind, task: Task) -> None:
        if kind is EventKind.TASK_SUBMITTED:
            self._submitted.labels(task.circuit).inc()
        elif kind is EventKind.TASK_ASSIGNED and task.attempt == 1:
            self._waited.labels(task.circuit).observe((task.assigned_ms - task.created_ms) / 1000)
        elif kind is EventKind.TASK_REQUEUED:
            self._retries.labels(task.circuit, known_reason(task.error_code)).inc()
        elif kind in _FINISHED:
            self._finished.labels(task.circuit, _FINISHED[kind]).inc()
            if kind is EventKind.TASK_FAILED:
                self._failed.labels(task.circuit, known_reason(task.error_code)).inc()
            elif kind is EventKind.TASK_COMPLETED:
                began = task.started_ms or task.assigned_ms
                self._proving.labels(task.circuit).observe((task.finished_ms - began) / 1000)
                self._duration.labels(task.circuit).observe((task.finished_ms - task.created_ms) / 1000)


def known_reason(code: str) -> str:
    """Return the error code as a label value; unknown codes become "other"."""
    return code if code in REASONS else OTHER


class WorkGauges(Collector):
    """Gauges of the replicated state, read at each scrape."""

    def __init__(self, replicator: Replicator) -> None:
        self._replicator = replicator

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on the state."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics with their present values."""
        state = self._replicator.state
        yield from _tasks(state)
        yield from _ages(state, time.time())
        yield from _workers(state)


def _tasks(state: State) -> Iterable[Metric]:
    tasks = GaugeMetricFamily("zkp_tasks", "Tasks in memory, by circuit and state.", labels=["circuit", "state"])
    for circuit in sorted({*state.circuits, *state.counts_by_circuit}):
        counts = state.counts_by_circuit.get(circuit, {})
        for task_state in TaskState:
            tasks.add_metric([circuit, str(task_state)], float(counts.get(task_state, 0)))
    yield tasks


def _ages(state: State, now: float) -> Iterable[Metric]:
    head = next(iter(state.queue), None)
    pending = 0.0 if head is None else now - state.tasks[head].created_ms / 1000
    leased = [state.tasks[task_id] for held in state.leases.values() for task_id in held]
    oldest = min((task.started_ms or task.assigned_ms for task in leased), default=None)
    yield GaugeMetricFamily(
        "zkp_task_oldest_pending_seconds",
        "Age of the oldest queued task; 0 without one. Old while slots are free: no worker can prove it.",
        max(0.0, pending),
    )
    yield GaugeMetricFamily(
        "zkp_task_oldest_attempt_seconds",
        "Age of the longest running attempt; 0 when none runs. Older than the time limit: leases are not enforced.",
        0.0 if oldest is None else max(0.0, now - oldest / 1000),
    )


def _workers(state: State) -> Iterable[Metric]:
    workers = GaugeMetricFamily(
        "zkp_workers",
        "Known workers, by state. Quarantined ones wait for `zkp admin release`.",
        labels=["state"],
    )
    for worker_state in WorkerState:
        count = sum(worker.state is worker_state for worker in state.workers.values())
        workers.add_metric([str(worker_state)], float(count))
    yield workers
    online = [worker for worker in state.workers.values() if worker.state is WorkerState.ONLINE]
    able = GaugeMetricFamily(
        "zkp_circuit_workers",
        "Online workers that can prove the circuit. 0: its tasks wait; start a worker that has its keys.",
        labels=["circuit"],
    )
    for circuit in sorted(state.circuits):
        able.add_metric([circuit], float(sum(circuit in worker.circuits for worker in online)))
    yield able
    yield GaugeMetricFamily(
        "zkp_worker_slots", "Slots of the workers that are online.", float(sum(worker.capacity for worker in online))
    )
    yield GaugeMetricFamily(
        "zkp_worker_slots_busy", "Attempts under way.", float(sum(map(len, state.leases.values())))
    )
