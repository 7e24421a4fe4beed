"""Pools, shelves and reporters that a test holds in its hand."""

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
    """Proves in `seconds`, or fails as told."""

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


class FakeShelf:
    """Keeps proofs in memory; `full` refuses them."""

    def __init__(self) -> None:
        self.kept: dict[AttemptId, FinishedProof] = {}
        self.full = False

    async def put(self, finished: FinishedProof) -> None:
        if self.full:
            raise SpoolError("/spool: no space left on device: free space")
        self.kept[finished.id] = finished

    async def remove(self, attempt: AttemptId) -> None:
        self.kept.pop(attempt, None)


class FakeReporter:
    """Takes reports while `reachable` is set."""

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


class FakeTally:
    """Counts outcomes."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()

    def ended(self, circuit: str, outcome: str) -> None:
        self.outcomes[outcome] += 1

    def proved_in(self, circuit: str, seconds: float) -> None:
        pass


class Bench:
    """A workbench with all its doubles. Make it inside the event loop."""

    def __init__(self, *, slots: int = 2, seconds: float = 1.0) -> None:
        self.pool = FakePool(seconds)
        self.shelf = FakeShelf()
        self.reporter = FakeReporter()
        self.tally = FakeTally()
        self.leaderless = asyncio.Event()
        self.workbench = AttemptRunner(
            pool=self.pool,
            shelf=self.shelf,
            reporter=self.reporter,
            tally=self.tally,
            verifying_keys={"addition": KEY},
            slots=slots,
        )

    async def drain(self, timeout: float) -> None:
        """Drain, beside a leader unless `leaderless` is set."""
        await self.workbench.drain(timeout, self.leaderless)
