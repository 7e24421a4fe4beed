"""The replicated state: a pure state machine. Commands and a time stamp in, events out.

Only this module changes the state of a task. It has no clock, no randomness and no I/O; `apply` never raises, because
an exception in a replicated command would stop every node. Two machines that apply the same commands are equal.

Messages in the state are replicated: nodes of different versions must produce the same text for the same command.
"""

import re
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from coordinator.state.commands import (
    Assign,
    Cancel,
    Command,
    Complete,
    Fail,
    LoseLease,
    MarkOffline,
    Projected,
    Quarantine,
    RegisterCircuit,
    RegisterWorker,
    Release,
    RevokeCertificate,
    Start,
    Submit,
)
from coordinator.state.digest import submission_digest
from coordinator.state.invariants import check_invariants
from coordinator.state.model import (
    Attempt,
    AttemptState,
    CircuitState,
    EventKind,
    Outcome,
    RefusalCode,
    Rejection,
    Revocation,
    Task,
    TaskEvent,
    TaskState,
    Worker,
    WorkerState,
)
from coordinator.state.rejections import no_task, no_worker, refused, stale
from coordinator.state.transitions import EVENT_OF_MOVE, TRANSITIONS, Move
from zkp.protocol.limits import SERIAL_PATTERN

MAX_REVOKED = 100_000
"""Maximum number of revoked certificates in the state; expired ones are evicted at the limit."""

_SERIAL = re.compile(SERIAL_PATTERN)


class State:
    """Tasks, attempts, leases, workers, circuits, revoked certificates, and the outbox of unprojected events.

    Readers may look at every public attribute; only `apply` changes them.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.projected = 0
        """Highest revision that PostgreSQL is known to hold."""
        self.clock_ms = 0
        """Latest time stamp seen: time never runs backwards here, whatever the leaders' clocks do."""
        self.tasks: dict[str, Task] = {}
        self.inputs: dict[str, bytes] = {}
        """Task id → private inputs, until the task ends. They are nowhere else: no event carries them."""
        self.workers: dict[str, Worker] = {}
        self.circuits: dict[str, CircuitState] = {}
        self.revoked: dict[str, Revocation] = {}
        """Serial → its revocation, first revoked first."""
        self.outbox: deque[TaskEvent] = deque()
        self.queue: OrderedDict[str, None] = OrderedDict()
        """Ids of pending tasks, next to be assigned first."""
        self.leases: dict[str, set[str]] = {}
        """Worker id → ids of the tasks that it holds."""
        self.finished: OrderedDict[str, None] = OrderedDict()
        """Ids of ended tasks, first ended first: what `Projected` may forget."""
        self.counts: dict[TaskState, int] = dict.fromkeys(TaskState, 0)
        self.counts_by_circuit: dict[str, dict[TaskState, int]] = {}
        self._term = 0
        self._events: list[TaskEvent] = []
        self._handlers: dict[type, Callable[[Any], Outcome]] = {
            Submit: self._submit,
            Cancel: self._cancel,
            Assign: self._assign,
            Start: self._start,
            Complete: self._complete,
            Fail: self._fail,
            LoseLease: self._lose_lease,
            RegisterWorker: self._register_worker,
            MarkOffline: self._mark_offline,
            Quarantine: self._quarantine,
            Release: self._release,
            RegisterCircuit: self._register_circuit,
            Projected: self._projected,
            RevokeCertificate: self._revoke_certificate,
        }

    def apply(self, command: Command, now_ms: int, term: int) -> Outcome:
        """Apply one command and return its outcome; an invalid one is rejected and changes nothing. Never raises.

        now_ms: the proposer's clock; term: the proposer's term, kept with each attempt.
        """
        handler = self._handlers.get(type(command))
        if handler is None:
            return refused(RefusalCode.INVALID, f"unknown command {type(command).__name__}")
        self.clock_ms = max(self.clock_ms, now_ms)
        self._term = term
        self._events = []
        return handler(command)

    def check(self) -> None:
        """Raise `InvariantError` unless every index agrees with the tasks. Linear in the number of tasks."""
        check_invariants(self)

    # ------------------------------------------------------------ tasks

    def _submit(self, command: Submit) -> Outcome:
        circuit = self.circuits.get(command.circuit)
        if circuit is None:
            return refused(RefusalCode.INVALID, f"circuit: {command.circuit!r} is not known to the cluster")
        digest = submission_digest(command.circuit, command.inputs, command.public_inputs)
        known = self.tasks.get(command.task_id)
        if known is not None:
            if known.digest == digest:
                return Outcome(task=known, duplicate=True)
            return refused(RefusalCode.CONFLICT, f"task {command.task_id} exists with other content", known)
        task = Task(
            id=command.task_id,
            submitter=command.submitter,
            circuit=command.circuit,
            public_inputs=command.public_inputs,
            max_retries=command.max_retries,
            digest=digest,
            verifying_key_sha256=circuit.verifying_key_sha256,
            created_ms=self.clock_ms,
            revision=self.revision + 1,
        )
        self.tasks[task.id] = task
        self.inputs[task.id] = command.inputs
        self.queue[task.id] = None
        self.count(task, 1)
        self._emit(EventKind.TASK_SUBMITTED, task=task)
        return self._done(task.id)

    def _cancel(self, command: Cancel) -> Outcome:
        task = self.tasks.get(command.task_id)
        if task is None:
            return no_task(command.task_id)
        if task.state is TaskState.CANCELLED:
            return Outcome(task=task, duplicate=True)
        if task.state.final:
            return refused(RefusalCode.CONFLICT, f"task {task.id} is already {task.state}", task)
        self._move(task, Move.CANCEL, AttemptState.CANCELLED)
        return self._done(task.id)

    def _assign(self, command: Assign) -> Outcome:
        task = self.tasks.get(command.task_id)
        if task is None:
            return no_task(command.task_id)
        if task.state is not TaskState.PENDING:
            return refused(RefusalCode.CONFLICT, f"task {task.id} is {task.state}, not pending", task)
        worker = self.workers.get(command.worker_id)
        if worker is None or worker.state is not WorkerState.ONLINE:
            return refused(RefusalCode.NOT_ALLOWED, f"worker {command.worker_id} is not online", task)
        if task.circuit not in worker.circuits:
            return refused(RefusalCode.NOT_ALLOWED, f"worker {worker.id} cannot prove {task.circuit}", task)
        if len(self.leases.get(worker.id, ())) >= worker.capacity:
            return refused(RefusalCode.NOT_ALLOWED, f"worker {worker.id} has no free slot", task)
        assigned = replace(
            task,
            attempt=task.attempt + 1,
            worker_id=worker.id,
            term=self._term,
            assigned_ms=self.clock_ms,
            started_ms=0,
            error_code="",
            error_message="",
        )
        self._move(assigned, Move.ASSIGN, AttemptState.ASSIGNED)
        return self._done(task.id)

    def _start(self, command: Start) -> Outcome:
        task = self.tasks.get(command.task_id)
        refusal = self._check_report(task, command.task_id, command.worker_id, command.attempt)
        if task is None or refusal is not None:
            return Outcome(refusal=refusal, task=task)
        if task.state is TaskState.IN_PROGRESS:
            return Outcome(task=task, duplicate=True)
        self._move(replace(task, started_ms=self.clock_ms), Move.START, AttemptState.IN_PROGRESS)
        return self._done(task.id)

    def _complete(self, command: Complete) -> Outcome:
        task = self.tasks.get(command.task_id)
        if task is not None and _is_same_result(task, command):
            return Outcome(task=task, duplicate=True)
        refusal = self._check_report(task, command.task_id, command.worker_id, command.attempt)
        if task is None or refusal is not None:
            return Outcome(refusal=refusal, task=task)
        self._move(replace(task, proof=command.proof), Move.COMPLETE, AttemptState.COMPLETED)
        return self._done(task.id)

    def _fail(self, command: Fail) -> Outcome:
        task = self.tasks.get(command.task_id)
        refusal = self._check_report(task, command.task_id, command.worker_id, command.attempt)
        if task is None or refusal is not None:
            return Outcome(refusal=refusal, task=task)
        self._end_attempt(
            task,
            AttemptState.RELEASED if command.released else AttemptState.FAILED,
            command.code,
            command.message,
            retryable=command.retryable or command.released,
            costs_retry=not command.released,
        )
        return self._done(task.id)

    def _lose_lease(self, command: LoseLease) -> Outcome:
        task = self.tasks.get(command.task_id)
        if task is None:
            return no_task(command.task_id)
        if not task.state.leased or task.attempt != command.attempt:
            return stale(task, command.attempt)
        self._end_attempt(task, AttemptState.LOST, command.code, command.message)
        return self._done(task.id)

    def _check_report(self, task: Task | None, task_id: str, worker_id: str, attempt: int) -> Rejection | None:
        """Accept reports only from the worker that holds the current attempt, and only until the task ends."""
        if task is None:
            return no_task(task_id).refusal
        if not task.state.leased or task.attempt != attempt:
            return stale(task, attempt).refusal
        if task.worker_id != worker_id:
            return Rejection(RefusalCode.STALE, f"attempt {attempt} of task {task_id} is not {worker_id}'s")
        return None

    def _end_attempt(
        self,
        task: Task,
        attempt_state: AttemptState,
        code: str,
        message: str,
        *,
        retryable: bool = True,
        costs_retry: bool = True,
    ) -> None:
        """An attempt ended without a proof: queue the task again, or fail it when its retries are used up."""
        again = retryable and (not costs_retry or task.retries < task.max_retries)
        ended = replace(
            task,
            retries=task.retries + 1 if again and costs_retry else task.retries,
            error_code=code,
            error_message=message,
        )
        self._move(ended, Move.REQUEUE if again else Move.FAIL, attempt_state)

    def _move(self, task: Task, move: Move, attempt_state: AttemptState) -> None:
        """Put a task into its next state and keep every index in step with it.

        task: the new values with the old state. The table decides where it goes; the callers have checked
        that there is a way.
        """
        before = task.state
        after = TRANSITIONS[before, move]
        held_by = task.worker_id
        attempt_values = task
        changes: dict[str, Any] = {"state": after, "revision": self.revision + 1}
        if after.final:
            changes |= {"finished_ms": self.clock_ms}
        if after is TaskState.PENDING:
            changes |= {"worker_id": ""}
        task = replace(task, **changes)
        self.tasks[task.id] = task
        self.count(attempt_values, -1)
        self.count(task, 1)
        if before is TaskState.PENDING:
            del self.queue[task.id]
        if before.leased and not after.leased:
            self.leases[held_by].discard(task.id)
        if after is TaskState.ASSIGNED:
            self.leases.setdefault(held_by, set()).add(task.id)
        if after is TaskState.PENDING:
            # It has waited once already: next in line.
            self.queue[task.id] = None
            self.queue.move_to_end(task.id, last=False)
        if after.final:
            self.finished[task.id] = None
            # Private inputs are no longer needed: they must not outlive the task.
            del self.inputs[task.id]
        attempt = None
        if before.leased or after.leased:
            attempt = self._attempt(attempt_values, attempt_state, ended=not after.leased)
        self._emit(EVENT_OF_MOVE[move], task=task, attempt=attempt)

    def _attempt(self, task: Task, state: AttemptState, *, ended: bool) -> Attempt:
        return Attempt(
            task_id=task.id,
            attempt=task.attempt,
            worker_id=task.worker_id,
            term=task.term,
            state=state,
            error_code=task.error_code,
            error_message=task.error_message,
            assigned_ms=task.assigned_ms,
            started_ms=task.started_ms,
            ended_ms=self.clock_ms if ended else 0,
            revision=self.revision + 1,
        )

    # ------------------------------------------------------------ workers

    def _register_worker(self, command: RegisterWorker) -> Outcome:
        known = self.workers.get(command.worker_id)
        if known is not None and known.state is WorkerState.QUARANTINED:
            return refused(RefusalCode.NOT_ALLOWED, f"worker {known.id} is quarantined: {known.reason}")
        if command.certificate_serial in self.revoked:
            return refused(RefusalCode.NOT_ALLOWED, f"the certificate of worker {command.worker_id} was revoked")
        held = set(command.held)
        mine = {(task_id, self.tasks[task_id].attempt) for task_id in self.leases.get(command.worker_id, ())}
        worker = Worker(
            id=command.worker_id,
            incarnation=command.incarnation,
            capacity=command.capacity,
            circuits=command.circuits,
            version=command.version,
            state=WorkerState.ONLINE,
            reason="",
            registered_ms=self.clock_ms,
            revision=self.revision + 1,
            certificate_serial=command.certificate_serial,
        )
        self.workers[worker.id] = worker
        self._emit(EventKind.WORKER_REGISTERED, worker=worker)
        for task_id, _ in sorted(mine - held):
            self._end_attempt(
                self.tasks[task_id], AttemptState.LOST, "lease_lost", f"worker {worker.id} no longer holds it"
            )
        return Outcome(events=tuple(self._events), dropped=tuple(sorted(held - mine)))

    def _mark_offline(self, command: MarkOffline) -> Outcome:
        worker = self.workers.get(command.worker_id)
        if worker is None:
            return no_worker(command.worker_id)
        if worker.incarnation != command.incarnation or worker.state is not WorkerState.ONLINE:
            return refused(RefusalCode.STALE, f"worker {worker.id} has moved on")
        self._set_worker(worker, WorkerState.OFFLINE, "fell silent", EventKind.WORKER_OFFLINE)
        self._revoke_leases(worker.id, "lease_lost", f"worker {worker.id} fell silent")
        return Outcome(events=tuple(self._events))

    def _quarantine(self, command: Quarantine) -> Outcome:
        worker = self.workers.get(command.worker_id)
        if worker is None:
            return no_worker(command.worker_id)
        if worker.state is WorkerState.QUARANTINED:
            return Outcome(duplicate=True)
        self._set_worker(worker, WorkerState.QUARANTINED, command.reason, EventKind.WORKER_QUARANTINED)
        self._revoke_leases(worker.id, "worker_quarantined", command.reason)
        return Outcome(events=tuple(self._events))

    def _release(self, command: Release) -> Outcome:
        worker = self.workers.get(command.worker_id)
        if worker is None:
            return no_worker(command.worker_id)
        if worker.state is not WorkerState.QUARANTINED:
            return Outcome(duplicate=True)
        self._set_worker(worker, WorkerState.OFFLINE, "", EventKind.WORKER_RELEASED)
        return Outcome(events=tuple(self._events))

    def _set_worker(self, worker: Worker, state: WorkerState, reason: str, kind: EventKind) -> None:
        changed = replace(worker, state=state, reason=reason, revision=self.revision + 1)
        self.workers[worker.id] = changed
        self._emit(kind, worker=changed)

    def _revoke_leases(self, worker_id: str, code: str, message: str, *, costs_retry: bool = True) -> None:
        # Sorted: a set's order differs between processes, and every node must do the same.
        for task_id in sorted(self.leases.get(worker_id, ())):
            self._end_attempt(self.tasks[task_id], AttemptState.LOST, code, message, costs_retry=costs_retry)

    # ------------------------------------------------------------ certificates

    def _revoke_certificate(self, command: RevokeCertificate) -> Outcome:
        if not _SERIAL.fullmatch(command.serial):
            return refused(RefusalCode.INVALID, "serial: must be lower-case hexadecimal without leading zeros")
        if command.serial in self.revoked:
            return Outcome(duplicate=True)
        if len(self.revoked) >= MAX_REVOKED and not self._evict_expired():
            return refused(RefusalCode.NOT_ALLOWED, f"{MAX_REVOKED} certificates are revoked and not yet expired")
        revocation = Revocation(
            serial=command.serial,
            subject=command.subject,
            reason=command.reason,
            revoked_ms=self.clock_ms,
            not_after_ms=command.not_after_ms,
            revision=self.revision + 1,
        )
        self.revoked[revocation.serial] = revocation
        self._emit(EventKind.CERTIFICATE_REVOKED, revocation=revocation)
        worker = self.workers.get(command.worker_id)
        if worker is not None and worker.state is WorkerState.ONLINE:
            self._set_worker(worker, WorkerState.OFFLINE, "its certificate was revoked", EventKind.WORKER_OFFLINE)
            message = f"the certificate of worker {worker.id} was revoked"
            self._revoke_leases(worker.id, "lease_lost", message, costs_retry=False)
        return Outcome(events=tuple(self._events))

    def _evict_expired(self) -> bool:
        """Evict expired certificates, and return whether any was evicted."""
        kept = {serial: one for serial, one in self.revoked.items() if one.not_after_ms >= self.clock_ms}
        if len(kept) == len(self.revoked):
            return False
        self.revoked = kept
        return True

    # ------------------------------------------------------------ circuits, projection

    def _register_circuit(self, command: RegisterCircuit) -> Outcome:
        known = self.circuits.get(command.name)
        if known is not None:
            if known.verifying_key_sha256 == command.verifying_key_sha256:
                return Outcome(duplicate=True)
            return refused(
                RefusalCode.CONFLICT,
                f"circuit {command.name} is pinned to verifying key {known.verifying_key_sha256}",
            )
        circuit = CircuitState(command.name, command.verifying_key_sha256, self.clock_ms, self.revision + 1)
        self.circuits[circuit.name] = circuit
        self._emit(EventKind.CIRCUIT_REGISTERED, circuit=circuit)
        return Outcome(events=tuple(self._events))

    def _projected(self, command: Projected) -> Outcome:
        if command.revision > self.revision:
            return refused(RefusalCode.INVALID, f"revision {command.revision} has not happened yet")
        self.projected = max(self.projected, command.revision)
        while self.outbox and self.outbox[0].revision <= self.projected:
            self.outbox.popleft()
        while self.finished:
            task = self.tasks[next(iter(self.finished))]
            if task.revision > min(self.projected, command.forget_up_to):
                break
            del self.finished[task.id]
            del self.tasks[task.id]
            self.count(task, -1)
        return Outcome()

    # ------------------------------------------------------------ events

    def count(self, task: Task, by: int) -> None:
        """Update the counts for a task that is added (1) or removed (-1)."""
        self.counts[task.state] += by
        counts = self.counts_by_circuit.get(task.circuit)
        if counts is None:
            counts = self.counts_by_circuit[task.circuit] = dict.fromkeys(TaskState, 0)
        counts[task.state] += by

    def _emit(
        self,
        kind: EventKind,
        *,
        task: Task | None = None,
        attempt: Attempt | None = None,
        worker: Worker | None = None,
        circuit: CircuitState | None = None,
        revocation: Revocation | None = None,
    ) -> None:
        self.revision += 1
        event = TaskEvent(self.revision, self.clock_ms, kind, task, attempt, worker, circuit, revocation)
        self._events.append(event)
        self.outbox.append(event)

    def _done(self, task_id: str) -> Outcome:
        return Outcome(events=tuple(self._events), task=self.tasks[task_id])


def _is_same_result(task: Task, command: Complete) -> bool:
    """Return whether the report is a repetition, whose first answer was lost."""
    return (
        task.state is TaskState.COMPLETED
        and task.worker_id == command.worker_id
        and task.attempt == command.attempt
        and task.proof == command.proof
    )
