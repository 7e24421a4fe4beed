"""Telling the coordinators how an attempt goes until one has taken it or does not want it."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol, TypeVar

from worker.job import AttemptId, FinishedProof, ProvingFailed
from worker.retry import ReportOutcome, RetryPolicy
from zkp.client.channel import Stubs
from zkp.client.errors import ClientError, Conflict, InvalidSubmission, NotFound, Refused, Untrusted
from zkp.client.leader import LeaderConnection
from zkp.protocol.v1 import coordinator_pb2 as pb

if TYPE_CHECKING:
    from grpc.aio import UnaryUnaryMultiCallable

log = logging.getLogger("zkp.worker")

Req = TypeVar("Req")
Resp = TypeVar("Resp")

_PATIENCE_S = 10.0  # of one search for the leader; then the retry policy decides


def trouble(error: ClientError) -> ReportOutcome:
    """What a refusal means to a worker."""
    if isinstance(error, Conflict | NotFound | InvalidSubmission):
        return ReportOutcome.SETTLED
    if isinstance(error, Refused | Untrusted):
        return ReportOutcome.REFUSED
    return ReportOutcome.AWAY


class Reporter(Protocol):
    """Whoever passes reports on."""

    async def started(self, attempt: AttemptId) -> bool:
        """Work has begun; False: the attempt is not this worker's any more."""
        ...

    async def proved(self, finished: FinishedProof) -> bool:
        """The proof is there; whether it was taken. False: nobody wants it."""
        ...

    async def failed(self, attempt: AttemptId, failure: ProvingFailed) -> None:
        """The attempt gave no proof."""
        ...

    async def released(self, attempt: AttemptId, reason: str) -> None:
        """The task is handed back unharmed."""
        ...


class LeaderReports:
    """Reports to whoever leads, for as long as it takes; cancel a call to give it up."""

    def __init__(
        self,
        connection: LeaderConnection,
        worker_id: str,
        *,
        policy: RetryPolicy | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._connection = connection
        self._worker_id = worker_id
        self._policy = policy or RetryPolicy()
        self._rng = rng or random.SystemRandom()

    async def started(self, attempt: AttemptId) -> bool:
        request = pb.StartTaskRequest(worker_id=self._worker_id, task_id=attempt.task_id, attempt=attempt.attempt)
        return await self._tell(attempt, lambda: self._call(lambda stubs: stubs.workers.StartTask, request))

    async def proved(self, finished: FinishedProof) -> bool:
        request = pb.CompletionReport(
            worker_id=self._worker_id,
            task_id=finished.id.task_id,
            attempt=finished.id.attempt,
            proof=finished.proof,
            proving_ms=finished.proving_ms,
        )
        return await self._tell(
            finished.id, lambda: self._call(lambda stubs: stubs.workers.ReportCompletion, request)
        )

    async def failed(self, attempt: AttemptId, failure: ProvingFailed) -> None:
        await self._report_failure(attempt, failure, released=False)

    async def released(self, attempt: AttemptId, reason: str) -> None:
        await self._report_failure(attempt, ProvingFailed("released", reason), released=True)

    async def _report_failure(self, attempt: AttemptId, failure: ProvingFailed, *, released: bool) -> None:
        request = pb.FailureReport(
            worker_id=self._worker_id,
            task_id=attempt.task_id,
            attempt=attempt.attempt,
            error=pb.TaskError(code=failure.code, message=failure.message),
            retryable=failure.retryable,
            released=released,
        )
        await self._tell(attempt, lambda: self._call(lambda stubs: stubs.workers.ReportFailure, request))

    async def _call(self, method: "Callable[[Stubs], UnaryUnaryMultiCallable[Req, Resp]]", request: Req) -> None:
        await self._connection.call(method, request, timeout=_PATIENCE_S)

    async def _tell(self, attempt: AttemptId, call: Callable[[], Awaitable[None]]) -> bool:
        """Call until it succeeds (True) or nothing is left to do (False)."""
        failures = 0
        while True:
            try:
                await call()
            except ClientError as error:
                failures += 1
                delay = self._policy.delay(trouble(error), failures, self._rng.random())
                task = {"task_id": attempt.task_id}
                if delay is None:
                    log.warning("report of attempt %d not wanted: %s", attempt.attempt, error, extra=task)
                    return False
                log.warning("report of attempt %d not taken, trying again: %s", attempt.attempt, error, extra=task)
                await asyncio.sleep(delay)
            else:
                return True
