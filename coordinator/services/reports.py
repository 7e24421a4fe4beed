"""The workers' reports on their attempts: started, proved, failed.

A proof is verified with the circuit's verifying key before it is proposed, because the state machine cannot verify
it; a worker that sends an invalid proof is quarantined. Errors that make a worker drop its proof are returned only
after a barrier, because a deposed leader that has not noticed it reads an old state.
"""

import logging
import re
from collections.abc import Callable
from typing import NoReturn

from coordinator.errors import (
    CoordinatorError,
    FalseProof,
    Forbidden,
    InvalidRequest,
    NotFound,
    StaleReport,
    Unavailable,
)
from coordinator.replication.replicator import Replicator
from coordinator.services.circuit_keys import CircuitKeys
from coordinator.services.verification import Verification
from coordinator.services.workers import require_own_worker_id
from coordinator.state.commands import Command, Complete, Fail, Quarantine, Start
from coordinator.state.model import RefusalCode, Rejection, Task, TaskState, WorkerState
from zkp.proofs.snarkjs import PROOF_BYTES

log = logging.getLogger("zkp.coordinator")

_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MESSAGE_LENGTH = 500


class Reports:
    """The use cases for reports. `caller` is the name in the certificate; StaleReport means "drop it"."""

    def __init__(
        self,
        replicator: Replicator,
        keys: CircuitKeys,
        verification: Verification,
        on_checked: Callable[[str, bool], None] = lambda _circuit, _valid: None,
    ) -> None:
        """`on_checked` is called with the circuit of each checked proof, and whether it is valid."""
        self._on_checked = on_checked
        self._replicator = replicator
        self._keys = keys
        self._verification = verification

    async def start(self, caller: str, worker_id: str, task_id: str, attempt: int) -> None:
        """Report that the worker started to prove. Idempotent."""
        require_own_worker_id(caller, worker_id)
        self._replicator.require_leader()
        await self._confirm(worker_id, task_id, attempt)
        await self._propose(Start(task_id, worker_id, attempt))

    async def complete(self, caller: str, worker_id: str, task_id: str, attempt: int, proof: bytes) -> None:
        """Accept a proof. Idempotent. An invalid proof quarantines the worker and raises FalseProof."""
        require_own_worker_id(caller, worker_id)
        self._replicator.require_leader()
        task = await self._confirm(worker_id, task_id, attempt, proof)
        if task.state is TaskState.COMPLETED:
            return
        if self._keys.local.get(task.circuit) != task.verifying_key_sha256:
            raise Unavailable(f"{task.circuit}: this node lacks the cluster's verifying key; keep the proof")
        valid = len(proof) == PROOF_BYTES and await self._verification.verify(task.circuit, proof, task.public_inputs)
        self._on_checked(task.circuit, valid)
        if not valid:
            await self._quarantine(worker_id, task)
        await self._propose(Complete(task_id, worker_id, attempt, proof))

    async def fail(
        self,
        caller: str,
        worker_id: str,
        task_id: str,
        attempt: int,
        *,
        code: str,
        message: str,
        retryable: bool,
        released: bool,
    ) -> None:
        """Report that the attempt failed, or that the worker returns it without an error (`released`)."""
        require_own_worker_id(caller, worker_id)
        self._replicator.require_leader()
        if not _CODE.fullmatch(code):
            raise InvalidRequest("error.code", "must be 1 to 64 characters from a-z 0-9 _, starting with a letter")
        await self._confirm(worker_id, task_id, attempt)
        await self._propose(Fail(task_id, worker_id, attempt, code, one_line(message), retryable, released))

    async def _confirm(self, worker_id: str, task_id: str, attempt: int, proof: bytes | None = None) -> Task:
        """Return the task if the worker may report on this attempt; errors are confirmed by a barrier."""
        try:
            return self._reportable(worker_id, task_id, attempt, proof)
        except CoordinatorError:
            await self._replicator.barrier()
        try:
            return self._reportable(worker_id, task_id, attempt, proof)
        except CoordinatorError as refusal:
            log.warning("report refused: %s", refusal, extra={"worker_id": worker_id})
            raise

    def _reportable(self, worker_id: str, task_id: str, attempt: int, proof: bytes | None) -> Task:
        state = self._replicator.state
        worker = state.workers.get(worker_id)
        if worker is not None and worker.state is WorkerState.QUARANTINED:
            raise Forbidden(f"worker {worker_id} is quarantined: {worker.reason}")
        task = state.tasks.get(task_id)
        if task is None:
            raise NotFound(f"there is no task {task_id[:64]!r}")
        if task.worker_id == worker_id and task.attempt == attempt:
            if task.state.leased:
                return task
            if task.state is TaskState.COMPLETED and task.proof == proof:
                return task
        raise StaleReport(
            f"attempt {attempt} of task {task_id} is not {worker_id}'s any more: "
            f"the task is {task.state} in attempt {task.attempt}"
        )

    async def _propose(self, command: Command) -> None:
        outcome = await self._replicator.submit(command)
        if outcome.refusal is not None:
            raise _refusal(outcome.refusal)

    async def _quarantine(self, worker_id: str, task: Task) -> NoReturn:
        reason = f"sent a false proof of task {task.id}, attempt {task.attempt}"
        log.warning("false proof", extra={"worker_id": worker_id, "task_id": task.id})
        await self._propose(Quarantine(worker_id, reason))
        raise FalseProof(f"proof: does not verify for task {task.id}; worker {worker_id} is quarantined")


def one_line(text: str) -> str:
    """Return a worker's message as one bounded line of printable characters, for logs and clients."""
    printable = "".join(character if character.isprintable() else " " for character in text[:4096])
    return " ".join(printable.split())[:_MESSAGE_LENGTH]


def _refusal(refusal: Rejection) -> CoordinatorError:
    if refusal.code is RefusalCode.NOT_FOUND:
        return NotFound(refusal.message)
    if refusal.code is RefusalCode.NOT_ALLOWED:
        return Forbidden(refusal.message)
    return StaleReport(refusal.message)
