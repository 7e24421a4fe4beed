"""Reports of attempts to the leader, repeated until acknowledged or refused."""

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

_LEADER_SEARCH_TIMEOUT_S = 10.0  # afterwards the retry policy applies


def report_outcome(error: ClientError) -> ReportOutcome:
    """Return the outcome of a report that failed with `error`."""
    if isinstance(error, Conflict | NotFound | InvalidSubmission):
        return ReportOutcome.SETTLED
    if isinstance(error, Refused | Untrusted):
        return ReportOutcome.REFUSED
    return ReportOutcome.UNAVAILABLE


class Reporter(Protocol):
    """Sends reports."""

    async def started(self, attempt: AttemptId) -> bool:
        """Report that work has begun; return False if the attempt is no longer leased to this worker."""
        ...

    async def proved(self, finished: FinishedProof) -> bool:
        """Report a proof; return whether it was accepted. False: it is no longer needed."""
        ...

    async def failed(self, attempt: AttemptId, failure: ProvingFailed) -> None:
        """Report that the attempt failed."""
        ...

    async def released(self, attempt: AttemptId, reason: str) -> None:
        """Release the task; this does not count as a failure."""
        ...


class LeaderReports:
    """Reports to the current leader, without a time limit; cancel a call to abandon it."""

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
        """Report the start of an attempt; see `Reporter.started`."""
        request = pb.StartTaskRequest(worker_id=self._worker_id, task_id=attempt.task_id, attempt=attempt.attempt)
        return await self._report(attempt, lambda: self._call(lambda stubs: stubs.workers.StartTask, request))

    async def proved(self, finished: FinishedProof) -> bool:
        """Report a proof; see `Reporter.proved`."""
        request = pb.CompletionReport(
            worker_id=self._worker_id,
            task_id=finished.id.task_id,
            attempt=finished.id.attempt,
            proof=finished.proof,
            proving_ms=finished.proving_ms,
        )
        return await self._report(
            finished.id, lambda: self._call(lambda stubs: stubs.workers.ReportCompletion, request)
        )

    async def failed(self, attempt: AttemptId, failure: ProvingFailed) -> None:
        """Report a failed attempt."""
        await self._report_failure(attempt, failure, released=False)

    async def released(self, attempt: AttemptId, reason: str) -> None:
        """Release the task of an attempt."""
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
        await self._report(attempt, lambda: self._call(lambda stubs: stubs.workers.ReportFailure, request))

    async def _call(self, method: "Callable[[Stubs], UnaryUnaryMultiCallable[Req, Resp]]", request: Req) -> None:
        await self._connection.call(method, request, timeout=_LEADER_SEARCH_TIMEOUT_S)

    async def _report(self, attempt: AttemptId, call: Callable[[], Awaitable[None]]) -> bool:
        """Repeat the call until it succeeds (True) or the outcome is final (False)."""
        failures = 0
        while True:
            try:
                await call()
            except ClientError as error:
                failures += 1
                delay = self._policy.delay(report_outcome(error), failures, self._rng.random())
                task = {"task_id": attempt.task_id}
                if delay is None:
                    log.warning("report of attempt %d refused: %s", attempt.attempt, error, extra=task)
                    return False
                log.warning("report of attempt %d failed; retrying: %s", attempt.attempt, error, extra=task)
                await asyncio.sleep(delay)
            else:
                return True
