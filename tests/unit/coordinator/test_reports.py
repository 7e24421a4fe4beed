"""What workers report, and what becomes of it."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import pytest

from coordinator.errors import FalseProof, Forbidden, InvalidRequest, NotFound, Overloaded, StaleReport, Unavailable
from coordinator.raft import NotLeader, OutcomeUnknown
from coordinator.services.circuit_keys import CircuitKeys
from coordinator.services.reports import Reports, one_line
from coordinator.services.verification import Verification
from coordinator.state.commands import Complete, LoseLease
from coordinator.state.model import TaskState, WorkerState
from tests.unit.coordinator.fakes import (
    FALSE_PROOF,
    GOOD_PROOF,
    KEY,
    KnowingVerifier,
    LocalReplicator,
    assign,
    complete,
    leader,
    register,
    start,
    submit,
)


class Desk:
    """Where reports arrive: worker-1 holds attempt 1 of task t."""

    def __init__(self) -> None:
        self.replicator: LocalReplicator = leader()
        self.verifier = KnowingVerifier()
        self.verification = Verification(self.verifier)
        self.reports = Reports(self.replicator, CircuitKeys({"addition": KEY}, self.replicator), self.verification)
        register(self.replicator, "worker-1", capacity=2)
        register(self.replicator, "worker-2")
        submit(self.replicator, "t")
        assign(self.replicator, "t", "worker-1")

    @property
    def state(self) -> TaskState:
        return self.replicator.state.tasks["t"].state

    async def complete(self, proof: bytes = GOOD_PROOF, worker_id: str = "worker-1", attempt: int = 1) -> None:
        await self.reports.complete(worker_id, worker_id, "t", attempt, proof)

    async def fail(self, code: str = "prover_failed", message: str = "", worker_id: str = "worker-1") -> None:
        await self.reports.fail(
            worker_id, worker_id, "t", 1, code=code, message=message, retryable=True, released=False
        )


@pytest.fixture
def desk() -> Desk:
    return Desk()


async def test_a_proof_is_verified_with_the_tasks_own_statement_before_it_is_accepted(desk: Desk) -> None:
    """Every proof is verified before its completion is proposed."""
    await desk.complete()
    assert desk.verifier.asked == [("addition", GOOD_PROOF, ("3",))]
    assert desk.state is TaskState.COMPLETED
    assert desk.replicator.state.tasks["t"].proof == GOOD_PROOF


@pytest.mark.parametrize("proof", [FALSE_PROOF, b"", b"\x01" * 255, b"\x01" * 100_000])
async def test_a_false_proof_quarantines_its_worker_and_the_task_goes_on(desk: Desk, proof: bytes) -> None:
    """Only valid proofs from the holder of the attempt are accepted."""
    with pytest.raises(FalseProof, match="does not verify"):
        await desk.complete(proof)
    worker = desk.replicator.state.workers["worker-1"]
    assert worker.state is WorkerState.QUARANTINED
    assert "false proof of task t" in worker.reason
    assert desk.state is TaskState.PENDING
    with pytest.raises(Forbidden, match="quarantined"):
        await desk.complete()


async def test_a_stale_report_is_refused_without_being_verified(desk: Desk) -> None:
    """A report of an earlier attempt changes nothing and costs nothing."""
    desk.replicator.apply(LoseLease("t", 1, "timeout", ""))
    assign(desk.replicator, "t", "worker-2")
    with pytest.raises(StaleReport):
        await desk.complete()
    assert desk.verifier.asked == []
    assert desk.state is TaskState.ASSIGNED
    assert desk.replicator.state.tasks["t"].worker_id == "worker-2"


async def test_another_workers_attempt_cannot_be_completed(desk: Desk) -> None:
    """Not even with a good proof and under one's own name."""
    with pytest.raises(StaleReport):
        await desk.complete(worker_id="worker-2")
    assert desk.state is TaskState.ASSIGNED


async def test_a_worker_cannot_report_in_anothers_name(desk: Desk) -> None:
    """The name in the certificate must be the worker's, for each kind of report."""
    with pytest.raises(Forbidden):
        await desk.reports.start("worker-2", "worker-1", "t", 1)
    with pytest.raises(Forbidden):
        await desk.reports.complete("worker-2", "worker-1", "t", 1, GOOD_PROOF)
    with pytest.raises(Forbidden):
        await desk.reports.fail(
            "worker-2", "worker-1", "t", 1, code="timeout", message="", retryable=True, released=False
        )
    assert desk.state is TaskState.ASSIGNED


async def test_the_same_completion_again_succeeds_again_without_being_verified(desk: Desk) -> None:
    """Its first answer was lost on the way."""
    await desk.complete()
    before = desk.replicator.log.index
    await desk.complete()
    assert len(desk.verifier.asked) == 1
    assert desk.replicator.log.index == before


async def test_a_late_failure_does_not_undo_a_result(desk: Desk) -> None:
    """A late failure report does not change a completed task."""
    await desk.complete()
    with pytest.raises(StaleReport):
        await desk.fail()
    assert desk.state is TaskState.COMPLETED


async def test_a_retried_task_keeps_its_retry_limit(desk: Desk) -> None:
    """A task is retried up to its limit only."""
    submit(desk.replicator, "u", max_retries=1)
    for attempt in (1, 2):
        assign(desk.replicator, "u", "worker-1")
        await desk.reports.fail(
            "worker-1", "worker-1", "u", attempt, code="prover_failed", message="x", retryable=True, released=False
        )
    assert desk.replicator.state.tasks["u"].state is TaskState.FAILED


async def test_start_can_be_said_twice(desk: Desk) -> None:
    """Its answer may have been lost."""
    await desk.reports.start("worker-1", "worker-1", "t", 1)
    await desk.reports.start("worker-1", "worker-1", "t", 1)
    assert desk.state is TaskState.IN_PROGRESS
    with pytest.raises(StaleReport):
        await desk.reports.start("worker-1", "worker-1", "t", 2)
    with pytest.raises(NotFound):
        await desk.reports.start("worker-1", "worker-1", "never", 1)


async def test_a_workers_words_are_one_bounded_printable_line(desk: Desk) -> None:
    """They end up in logs, in the record and at clients."""
    await desk.fail(message="line one\nline \x1b[31mtwo\0 " + "x" * 10_000)
    message = desk.replicator.state.tasks["t"].error_message
    assert message.startswith("line one line [31mtwo x")
    assert len(message) == 500
    assert one_line("  plain \u202e words ") == "plain words"


@pytest.mark.parametrize("code", ["", "Bad", "a b", "x" * 65, "a\n", "1st"])
async def test_error_codes_are_words(desk: Desk, code: str) -> None:
    """Programs read them."""
    with pytest.raises(InvalidRequest) as refused:
        await desk.fail(code=code)
    assert refused.value.field == "error.code"
    assert desk.state is TaskState.ASSIGNED


async def test_a_leader_that_was_deposed_unawares_lets_no_proof_be_dropped(desk: Desk) -> None:
    """To its old state a new attempt looks stale: it must not say so, for the worker would throw the proof away."""
    desk.replicator.on_barrier = lambda: desk.replicator.depose("coordinator-2")
    with pytest.raises(NotLeader):
        await desk.complete(attempt=2)


async def test_a_report_that_looks_stale_is_judged_by_the_newest_state(desk: Desk) -> None:
    """What was committed meanwhile counts."""
    desk.replicator.apply(LoseLease("t", 1, "timeout", ""))
    desk.replicator.on_barrier = lambda: assign(desk.replicator, "t", "worker-1")
    await desk.complete(attempt=2)
    assert desk.state is TaskState.COMPLETED


async def test_a_node_with_another_verifying_key_judges_no_proof(desk: Desk) -> None:
    """It would call a good proof false; the worker keeps it for a leader that can tell."""
    reports = Reports(desk.replicator, CircuitKeys({"addition": "cd" * 32}, desk.replicator), desk.verification)
    with pytest.raises(Unavailable, match="keep the proof"):
        await reports.complete("worker-1", "worker-1", "t", 1, GOOD_PROOF)
    assert desk.replicator.state.workers["worker-1"].state is WorkerState.ONLINE


async def test_an_unknown_outcome_is_passed_on(desk: Desk) -> None:
    """The worker sends the proof again."""
    desk.replicator.log.failures = [OutcomeUnknown("leadership lost")]
    with pytest.raises(OutcomeUnknown):
        await desk.complete()
    await desk.complete()
    assert desk.state is TaskState.COMPLETED


async def test_a_result_that_lost_a_race_is_stale(desk: Desk) -> None:
    """The lease may be lost while the proof is being verified: the state machine has the last word."""

    class Racing(KnowingVerifier):
        def verify(self, circuit: str, proof: bytes, public_inputs: Sequence[str]) -> bool:
            desk.replicator.apply(LoseLease("t", 1, "timeout", ""))
            return super().verify(circuit, proof, public_inputs)

    keys = CircuitKeys({"addition": KEY}, desk.replicator)
    reports = Reports(desk.replicator, keys, Verification(Racing()))
    with pytest.raises(StaleReport):
        await reports.complete("worker-1", "worker-1", "t", 1, GOOD_PROOF)
    assert desk.state is TaskState.PENDING


async def test_proofs_are_verified_beside_the_event_loop(desk: Desk) -> None:
    """A millisecond each would add up to missed heartbeats."""
    threads: list[threading.Thread] = []

    class Noting(KnowingVerifier):
        def verify(self, circuit: str, proof: bytes, public_inputs: Sequence[str]) -> bool:
            threads.append(threading.current_thread())
            return True

    verification = Verification(Noting())
    assert await verification.verify("addition", GOOD_PROOF, ("3",))
    assert threads != [threading.main_thread()]
    verification.close()


async def test_verification_is_bounded() -> None:
    """What waits to be verified does not pile up."""
    with pytest.raises(Overloaded):
        await Verification(KnowingVerifier(), bound=0).verify("addition", GOOD_PROOF, ())


async def test_completing_twice_with_different_proofs_keeps_the_first(desk: Desk) -> None:
    """Exactly one accepted result."""
    other = b"\x03" * 256
    task = desk.replicator.state.tasks["t"]
    start(desk.replicator, task)
    complete(desk.replicator, replace(task), other)
    with pytest.raises(StaleReport):
        await desk.complete(GOOD_PROOF)
    assert desk.replicator.state.tasks["t"].proof == other
    assert not [command for command in desk.replicator.submitted if isinstance(command, Complete)]
