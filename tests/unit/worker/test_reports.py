"""Reports that are repeated until they are settled, in virtual time."""

import asyncio
from typing import Any

import grpc
import pytest

from tests.unit.client.network import A, B, Network, Node, follower
from tests.unit.client.virtual_time import run
from worker.job import AttemptId, FinishedProof, ProvingFailed
from worker.reports import LeaderReports, report_outcome
from worker.retry import ReportOutcome
from zkp.client.errors import (
    Conflict,
    Exhausted,
    InvalidSubmission,
    NoLeader,
    NotFound,
    Refused,
    ServerFault,
    Untrusted,
)
from zkp.client.failures import CallFailed
from zkp.protocol.v1 import coordinator_pb2 as pb

ONE = AttemptId("t-1", 1)
PROOF = FinishedProof(ONE, b"proof", 321)


class Leader:
    """Answers reports with what is in `answers`, then with success."""

    def __init__(self, *answers: CallFailed) -> None:
        self.answers = list(answers)
        self.seen: list[Any] = []

    async def take(self, request: Any) -> Any:
        self.seen.append(request)
        if self.answers:
            raise self.answers.pop(0)
        return None

    def node(self) -> Node:
        return Node(StartTask=self.take, ReportCompletion=self.take, ReportFailure=self.take)


def play(network: Network, report: Any) -> tuple[Any, float]:
    """Return the result of a report, and the seconds that it took."""

    async def scenario() -> tuple[Any, float]:
        async with network.connect() as connection:
            outcome = await report(LeaderReports(connection, "worker-1"))
            return outcome, asyncio.get_running_loop().time()

    return run(scenario())


def refusal(code: grpc.StatusCode, text: str = "no") -> CallFailed:
    return CallFailed(code, text)


def test_a_report_names_worker_task_and_attempt() -> None:
    """Each of the four reports is complete."""
    leader = Leader()

    async def report(reports: LeaderReports) -> None:
        assert await reports.started(ONE)
        assert await reports.proved(PROOF)
        await reports.failed(ONE, ProvingFailed("timeout", "slow"))
        await reports.released(ONE, "stopping")

    play(Network({A: leader.node()}), report)
    name: dict[str, Any] = {"worker_id": "worker-1", "task_id": "t-1", "attempt": 1}
    assert leader.seen == [
        pb.StartTaskRequest(**name),
        pb.CompletionReport(**name, proof=b"proof", proving_ms=321),
        pb.FailureReport(**name, error=pb.TaskError(code="timeout", message="slow"), retryable=True),
        pb.FailureReport(
            **name, error=pb.TaskError(code="released", message="stopping"), retryable=True, released=True
        ),
    ]


@pytest.mark.parametrize("code", [grpc.StatusCode.ABORTED, grpc.StatusCode.NOT_FOUND])
def test_a_stale_proof_is_dropped(code: grpc.StatusCode) -> None:
    """It is sent once."""
    leader = Leader(refusal(code))
    outcome, _ = play(Network({A: leader.node()}), lambda reports: reports.proved(PROOF))
    assert outcome is False
    assert len(leader.seen) == 1


def test_a_proof_called_false_is_not_sent_again() -> None:
    """INVALID_ARGUMENT will not change its mind."""
    leader = Leader(refusal(grpc.StatusCode.INVALID_ARGUMENT, "proof: does not verify"))
    outcome, _ = play(Network({A: leader.node()}), lambda reports: reports.proved(PROOF))
    assert outcome is False


def test_a_quarantined_worker_retries_slowly() -> None:
    """The proof is kept, the coordinator is not pestered, and the release is noticed."""
    leader = Leader(*[refusal(grpc.StatusCode.PERMISSION_DENIED, "worker-1 is quarantined")] * 5)
    outcome, elapsed = play(Network({A: leader.node()}), lambda reports: reports.proved(PROOF))
    assert outcome is True
    assert len(leader.seen) == 6
    assert elapsed > 60


def test_reports_outlast_minutes_without_coordinators() -> None:
    """Ten minutes without a leader cost nothing but patience."""
    leader = Leader()
    network = Network({A: follower(None), B: follower(None)})

    async def report(reports: LeaderReports) -> bool:
        asyncio.get_running_loop().call_later(600, network.nodes.update, {A: leader.node(), B: follower(A)})
        return await reports.proved(PROOF)

    outcome, elapsed = play(network, report)
    assert outcome is True
    assert 600 <= elapsed < 625
    assert leader.seen == [leader.seen[0]]


@pytest.mark.parametrize(
    ("error", "meaning"),
    [
        (NoLeader("none", {}), ReportOutcome.UNAVAILABLE),
        (Exhausted("full", 1.0), ReportOutcome.UNAVAILABLE),
        (ServerFault("broken"), ReportOutcome.UNAVAILABLE),
        (Refused("quarantined"), ReportOutcome.REFUSED),
        (Untrusted("expired", {}), ReportOutcome.REFUSED),
        (Conflict("stale"), ReportOutcome.SETTLED),
        (NotFound("unknown"), ReportOutcome.SETTLED),
        (InvalidSubmission("false proof"), ReportOutcome.SETTLED),
    ],
)
def test_every_refusal_has_a_meaning(error: Any, meaning: ReportOutcome) -> None:
    """What is waited for, what is asked slowly, and what is over."""
    assert report_outcome(error) is meaning
