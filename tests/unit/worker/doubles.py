"""Test doubles: pool, proof store, reporter and metrics."""

import asyncio
from collections import Counter

from worker.attempt_runner import AttemptRunner
from worker.errors import SpoolError
from worker.job import AttemptId, FinishedProof, Job, ProvingFailed

KEY = "ab" * 32

SECRET = "471100081547110008154711"
"""A private input, too long to stand by chance among times and process ids."""


def job(task_id: str = "t-1", attempt: int = 1, *, circuit: str = "addition", key: str = KEY) -> Job:
    return Job(AttemptId(task_id, attempt), circuit, b'{"a":"%s"}' % SECRET.encode(), ("5",), key, 60.0)


class FakePool:
    """Proves in `seconds`, or raises `failure`."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.seconds = seconds
        self.failure: Exception | None = None
        self.begun: list[AttemptId] = []
        self.cut_short: list[AttemptId] = []

    async def prove(self, job: Job) -> FinishedProof:
        self.begun.append(job.id)
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            self.cut_short.append(job.id)
            raise
        if self.failure is not None:
            raise self.failure
        return FinishedProof(job.id, b"proof of " + job.id.task_id.encode(), 300)


class FakeProofStore:
    """Stores proofs in memory; rejects them while `full`."""

    def __init__(self) -> None:
        self.stored: dict[AttemptId, FinishedProof] = {}
        self.full = False

    async def put(self, finished: FinishedProof) -> None:
        if self.full:
            raise SpoolError("/spool: no space left on device: free space")
        self.stored[finished.id] = finished

    async def remove(self, attempt: AttemptId) -> None:
        self.stored.pop(attempt, None)


class FakeReporter:
    """Acknowledges reports while `reachable` is set."""

    def __init__(self) -> None:
        self.reachable = asyncio.Event()
        self.reachable.set()
        self.stale: set[AttemptId] = set()
        self.began: list[AttemptId] = []
        self.proofs: list[FinishedProof] = []
        self.failures: list[tuple[AttemptId, ProvingFailed]] = []
        self.returned: list[AttemptId] = []

    async def started(self, attempt: AttemptId) -> bool:
        await self.reachable.wait()
        self.began.append(attempt)
        return attempt not in self.stale

    async def proved(self, finished: FinishedProof) -> bool:
        await self.reachable.wait()
        self.proofs.append(finished)
        return finished.id not in self.stale

    async def failed(self, attempt: AttemptId, failure: ProvingFailed) -> None:
        await self.reachable.wait()
        self.failures.append((attempt, failure))

    async def released(self, attempt: AttemptId, reason: str) -> None:
        await self.reachable.wait()
        self.returned.append(attempt)


class FakeMetrics:
    """Counts outcomes."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()

    def attempt_ended(self, circuit: str, outcome: str) -> None:
        self.outcomes[outcome] += 1

    def proof_made(self, circuit: str, seconds: float) -> None:
        pass


class RunnerFixture:
    """An `AttemptRunner` with test doubles. Create it inside the event loop."""

    def __init__(self, *, slots: int = 2, seconds: float = 1.0) -> None:
        self.pool = FakePool(seconds)
        self.store = FakeProofStore()
        self.reporter = FakeReporter()
        self.metrics = FakeMetrics()
        self.leaderless = asyncio.Event()
        self.runner = AttemptRunner(
            pool=self.pool,
            proof_store=self.store,
            reporter=self.reporter,
            metrics=self.metrics,
            verifying_keys={"addition": KEY},
            slots=slots,
        )

    async def drain(self, timeout: float) -> None:
        """Drain, beside a leader unless `leaderless` is set."""
        await self.runner.drain(timeout, self.leaderless)
