"""Runs the attempts that this worker holds, from assignment to acknowledged report.

An attempt is held from its acceptance until a leader has acknowledged or refused its report. Registrations and
heartbeats name all held attempts, so the failure of a coordinator does not cause a task to be proved twice.
"""

import asyncio
import contextlib
import logging
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from worker.errors import SpoolError
from worker.job import AttemptId, FinishedProof, Job, ProvingFailed
from worker.pool import Pool
from worker.reports import Reporter
from worker.spool import ProofStore

log = logging.getLogger("zkp.worker")

Work = Coroutine[Any, Any, None]


class AttemptMetrics(Protocol):
    """Records the outcomes of attempts."""

    def attempt_ended(self, circuit: str, outcome: str) -> None:
        """Count an ended attempt; `outcome` is "proved", "dropped", "released" or an error code."""
        ...

    def proof_made(self, circuit: str, seconds: float) -> None:
        """Record the duration of a proof."""
        ...


@dataclass(slots=True, eq=False)
class _Held:
    circuit: str
    proving: bool
    task: asyncio.Task[None]
    stored: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once its proof is stored."""


class AttemptRunner:
    """Accepts assignments, proves them, stores and reports the proofs. `slots`: the number of concurrent proofs."""

    def __init__(
        self,
        *,
        pool: Pool,
        proof_store: ProofStore,
        reporter: Reporter,
        metrics: AttemptMetrics,
        verifying_keys: Mapping[str, str],
        slots: int,
    ) -> None:
        self._pool = pool
        self._proof_store = proof_store
        self._reporter = reporter
        self._metrics = metrics
        self._verifying_keys = verifying_keys
        self._slots = slots
        self._held: dict[AttemptId, _Held] = {}
        self._releasing: set[asyncio.Task[None]] = set()
        self._closed = False

    def held(self) -> tuple[AttemptId, ...]:
        """Return all attempts that are being proved or whose report is not yet acknowledged."""
        return tuple(self._held)

    @property
    def proving(self) -> int:
        """Number of attempts that are being proved."""
        return sum(held.proving for held in self._held.values())

    def restore(self, finished: Iterable[FinishedProof]) -> None:
        """Resume reporting proofs that an earlier process left."""
        for proof in finished:
            self._hold(proof.id, "", self._report_proof(proof), proving=False).stored.set()

    def accept(self, job: Job) -> None:
        """Start an attempt. Ignore one that is already held; release one for which no slot is free."""
        if job.id in self._held:
            return
        self.drop(held for held in self._held if held.task_id == job.id.task_id)  # an older attempt
        # Reporting attempts do not count: the leader may have processed a report whose answer has not arrived yet.
        if self._closed or self.proving >= self._slots:
            self._release(job.id, "the worker is stopping" if self._closed else "no free slot")
            return
        self._hold(job.id, job.circuit, self._run(job), proving=True)

    def drop(self, attempts: Iterable[AttemptId]) -> None:
        """Cancel attempts that are no longer leased to this worker; ignore unknown ones."""
        for attempt in list(attempts):
            held = self._held.pop(attempt, None)
            if held is not None:
                log.info("attempt %d dropped: its lease has ended", attempt.attempt, extra=_log_fields(attempt))
                self._metrics.attempt_ended(held.circuit, "dropped")
                held.task.cancel()
                self._background(self._remove_proof(held.task, attempt))

    async def drain(self, timeout: float, leaderless: asyncio.Event) -> None:
        """Accept no more attempts, wait for the held ones, then release those without a proof.

        Unacknowledged proofs stay in the store for the next process.

        Args:
            timeout: Maximum time to wait, in seconds.
            leaderless: While it is set, stored proofs are not waited for.
        """
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), asyncio.TaskGroup() as waiting:
                for held in self._held.values():
                    waiting.create_task(_settled_or_stored(held, leaderless))
        for attempt, held in list(self._held.items()):
            held.task.cancel()
            if held.proving:
                del self._held[attempt]
                self._metrics.attempt_ended(held.circuit, "released")
                self._release(attempt, "the worker is stopping")
        await asyncio.gather(*(held.task for held in self._held.values()), return_exceptions=True)

    async def close(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for pending releases, then cancel all work."""
        if self._releasing:
            await asyncio.wait(self._releasing, timeout=timeout)
        rest = [*self._releasing, *(held.task for held in self._held.values())]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def _hold(self, attempt: AttemptId, circuit: str, work: Work, *, proving: bool) -> _Held:
        task = asyncio.create_task(work)
        held = _Held(circuit, proving, task)
        self._held[attempt] = held

        def settled(done: asyncio.Task[None]) -> None:
            if self._held.get(attempt) is held and not done.cancelled():
                del self._held[attempt]
            if not done.cancelled() and (error := done.exception()) is not None:
                log.error("report failed inside the worker", exc_info=error, extra=_log_fields(attempt))

        task.add_done_callback(settled)
        return held

    async def _run(self, job: Job) -> None:
        log.info("proving %s, attempt %d", job.circuit, job.id.attempt, extra=_log_fields(job.id))
        try:
            finished = await self._prove(job)
        except ProvingFailed as failure:
            await self._fail(job, failure)
            return
        except Exception:
            # An internal error: report it at once, so that the coordinator does not wait for the time limit.
            log.exception("attempt failed inside the worker", extra=_log_fields(job.id))
            await self._fail(job, ProvingFailed("worker_failed", "internal error; see the worker's log"))
            return
        self._end_proving(job.id)
        if finished is None:
            self._metrics.attempt_ended(job.circuit, "dropped")
            return
        self._metrics.proof_made(job.circuit, finished.proving_ms / 1000)
        self._metrics.attempt_ended(job.circuit, "proved")
        try:
            await self._proof_store.put(finished)
        except SpoolError as error:
            # The proof is still in memory, and is reported while this process lives.
            log.error("proof not spooled; reporting it from memory: %s", error, extra=_log_fields(job.id))
        else:
            self._mark_stored(job.id)
        await self._report_proof(finished)

    async def _fail(self, job: Job, failure: ProvingFailed) -> None:
        self._end_proving(job.id)
        log.warning("attempt %d failed: %s", job.id.attempt, failure, extra=_log_fields(job.id))
        self._metrics.attempt_ended(job.circuit, failure.code)
        await self._reporter.failed(job.id, failure)

    async def _prove(self, job: Job) -> FinishedProof | None:
        """Return the proof, None if the coordinator reports that the attempt is no longer leased to this worker."""
        own = self._verifying_keys.get(job.circuit)
        if own != job.verifying_key_sha256:
            raise ProvingFailed(
                "key_mismatch",
                f"verifying key of {job.circuit!r}: this worker has {(own or 'none')[:16]}, the task requires "
                f"{job.verifying_key_sha256[:16]}; distribute the same keys to all hosts",
            )
        proving = asyncio.create_task(self._pool.prove(job))
        starting = asyncio.create_task(self._reporter.started(job.id))
        try:
            await asyncio.wait((proving, starting), return_when=asyncio.FIRST_COMPLETED)
            if not proving.done() and not await starting:
                return None
            return await proving
        finally:
            starting.cancel()
            proving.cancel()
            await asyncio.gather(starting, proving, return_exceptions=True)

    async def _report_proof(self, finished: FinishedProof) -> None:
        if await self._reporter.proved(finished):
            log.info("task proved in %d ms", finished.proving_ms, extra=_log_fields(finished.id))
        await self._proof_store.remove(finished.id)

    def _end_proving(self, attempt: AttemptId) -> None:
        if (held := self._held.get(attempt)) is not None:
            held.proving = False

    def _mark_stored(self, attempt: AttemptId) -> None:
        if (held := self._held.get(attempt)) is not None:
            held.stored.set()

    def _release(self, attempt: AttemptId, reason: str) -> None:
        log.info("task released: %s", reason, extra=_log_fields(attempt))
        self._background(self._reporter.released(attempt, reason))

    async def _remove_proof(self, task: asyncio.Task[None], attempt: AttemptId) -> None:
        await asyncio.gather(task, return_exceptions=True)
        await self._proof_store.remove(attempt)

    def _background(self, work: Work) -> None:
        task = asyncio.create_task(work)
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)


async def _settled_or_stored(held: _Held, leaderless: asyncio.Event) -> None:
    """Return once the attempt's task has ended, or its proof is stored and there is no leader."""

    async def stored_without_leader() -> None:
        await held.stored.wait()
        await leaderless.wait()

    waiting = asyncio.create_task(stored_without_leader())
    try:
        await asyncio.wait((held.task, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


def _log_fields(attempt: AttemptId) -> dict[str, str]:
    return {"task_id": attempt.task_id}
