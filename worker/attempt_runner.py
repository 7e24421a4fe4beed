"""The attempts that this worker holds, each on its way from assignment to settled report.

An attempt is held from the moment it is accepted until a leader has taken its report or does not want it
any more. What is held is what registration and heartbeats name, so nothing is proved twice because a
coordinator went away.
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
from worker.spool import Shelf

log = logging.getLogger("zkp.worker")

Work = Coroutine[Any, Any, None]


class Tally(Protocol):
    """Counts what becomes of attempts."""

    def ended(self, circuit: str, outcome: str) -> None:
        """One attempt ended: "proved", "dropped", "released", or the code of its failure."""
        ...

    def proved_in(self, circuit: str, seconds: float) -> None:
        """A proof took this long."""
        ...


@dataclass(slots=True, eq=False)
class _Held:
    circuit: str
    proving: bool
    task: asyncio.Task[None]
    kept: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once its proof is on the shelf."""


class AttemptRunner:
    """Takes assignments, proves them, keeps the proofs, reports. `slots`: how many proofs at once."""

    def __init__(
        self,
        *,
        pool: Pool,
        shelf: Shelf,
        reporter: Reporter,
        tally: Tally,
        verifying_keys: Mapping[str, str],
        slots: int,
    ) -> None:
        self._pool = pool
        self._shelf = shelf
        self._reporter = reporter
        self._tally = tally
        self._verifying_keys = verifying_keys
        self._slots = slots
        self._held: dict[AttemptId, _Held] = {}
        self._returning: set[asyncio.Task[None]] = set()
        self._closed = False

    def held(self) -> tuple[AttemptId, ...]:
        """Every attempt that is proved, or whose report was not taken yet."""
        return tuple(self._held)

    @property
    def proving(self) -> int:
        """Attempts without a proof so far."""
        return sum(held.proving for held in self._held.values())

    def restore(self, finished: Iterable[FinishedProof]) -> None:
        """Take up proofs that an earlier process made."""
        for proof in finished:
            self._hold(proof.id, "", self._deliver(proof), proving=False).kept.set()

    def accept(self, job: Job) -> None:
        """Begin an attempt. The same one again changes nothing; one too many is handed back."""
        if job.id in self._held:
            return
        self.drop(held for held in self._held if held.task_id == job.id.task_id)  # an older attempt
        # Whoever reports does not count: the leader may have taken a report before its answer is here.
        if self._closed or self.proving >= self._slots:
            self._hand_back(job.id, "the worker is stopping" if self._closed else "no free slot")
            return
        self._hold(job.id, job.circuit, self._work(job), proving=True)

    def drop(self, attempts: Iterable[AttemptId]) -> None:
        """End these attempts: nobody wants them. Unknown ones are ignored."""
        for attempt in list(attempts):
            held = self._held.pop(attempt, None)
            if held is not None:
                log.info("attempt %d dropped: its assignment was withdrawn", attempt.attempt, extra=_task(attempt))
                self._tally.ended(held.circuit, "dropped")
                held.task.cancel()
                self._background(self._clear(held.task, attempt))

    async def drain(self, timeout: float, leaderless: asyncio.Event) -> None:
        """Take no more; wait up to `timeout` seconds for what is held, then hand back what is not proved.

        Proofs that no leader has taken stay on the shelf for the next process; while `leaderless` is set, they are
        not waited for.
        """
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), asyncio.TaskGroup() as waiting:
                for held in self._held.values():
                    waiting.create_task(_settled_or_kept(held, leaderless))
        for attempt, held in list(self._held.items()):
            held.task.cancel()
            if held.proving:
                del self._held[attempt]
                self._tally.ended(held.circuit, "released")
                self._hand_back(attempt, "the worker is stopping")
        await asyncio.gather(*(held.task for held in self._held.values()), return_exceptions=True)

    async def close(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for tasks on their way back, then end everything."""
        if self._returning:
            await asyncio.wait(self._returning, timeout=timeout)
        rest = [*self._returning, *(held.task for held in self._held.values())]
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
                log.error("report failed inside the worker", exc_info=error, extra=_task(attempt))

        task.add_done_callback(settled)
        return held

    async def _work(self, job: Job) -> None:
        log.info("proving %s, attempt %d", job.circuit, job.id.attempt, extra=_task(job.id))
        try:
            finished = await self._prove(job)
        except ProvingFailed as failure:
            await self._fail(job, failure)
            return
        except Exception:
            # A mistake of ours: the coordinator hears of it at once instead of waiting for us in vain.
            log.exception("attempt failed inside the worker", extra=_task(job.id))
            await self._fail(job, ProvingFailed("worker_failed", "internal error of the worker; see its log"))
            return
        self._stop_proving(job.id)
        if finished is None:
            self._tally.ended(job.circuit, "dropped")
            return
        self._tally.proved_in(job.circuit, finished.proving_ms / 1000)
        self._tally.ended(job.circuit, "proved")
        try:
            await self._shelf.put(finished)
        except SpoolError as error:
            # It is still in memory, and still reported for as long as this process lives.
            log.error("proof not kept on disk: %s", error, extra=_task(job.id))
        else:
            self._note_kept(job.id)
        await self._deliver(finished)

    async def _fail(self, job: Job, failure: ProvingFailed) -> None:
        self._stop_proving(job.id)
        log.warning("attempt %d failed: %s", job.id.attempt, failure, extra=_task(job.id))
        self._tally.ended(job.circuit, failure.code)
        await self._reporter.failed(job.id, failure)

    async def _prove(self, job: Job) -> FinishedProof | None:
        """The proof; None when the coordinator says meanwhile that the attempt is not ours."""
        ours = self._verifying_keys.get(job.circuit)
        if ours != job.verifying_key_sha256:
            raise ProvingFailed(
                "key_mismatch",
                f"this worker's verifying key of {job.circuit!r} is {(ours or 'missing')[:16]}, and the task "
                f"wants {job.verifying_key_sha256[:16]}: distribute the same keys to all workers and coordinators",
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

    async def _deliver(self, finished: FinishedProof) -> None:
        if await self._reporter.proved(finished):
            log.info("task proved in %d ms", finished.proving_ms, extra=_task(finished.id))
        await self._shelf.remove(finished.id)

    def _stop_proving(self, attempt: AttemptId) -> None:
        if (held := self._held.get(attempt)) is not None:
            held.proving = False

    def _note_kept(self, attempt: AttemptId) -> None:
        if (held := self._held.get(attempt)) is not None:
            held.kept.set()

    def _hand_back(self, attempt: AttemptId, reason: str) -> None:
        log.info("task returned: %s", reason, extra=_task(attempt))
        self._background(self._reporter.released(attempt, reason))

    async def _clear(self, task: asyncio.Task[None], attempt: AttemptId) -> None:
        await asyncio.gather(task, return_exceptions=True)
        await self._shelf.remove(attempt)

    def _background(self, work: Work) -> None:
        task = asyncio.create_task(work)
        self._returning.add(task)
        task.add_done_callback(self._returning.discard)


async def _settled_or_kept(held: _Held, leaderless: asyncio.Event) -> None:
    """Return once the attempt's task has ended, or its proof is on the shelf and no leader would take it."""

    async def shelved() -> None:
        await held.kept.wait()
        await leaderless.wait()

    waiting = asyncio.create_task(shelved())
    try:
        await asyncio.wait((held.task, waiting), return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


def _task(attempt: AttemptId) -> dict[str, str]:
    return {"task_id": attempt.task_id}
