"""Attempts from assignment to acknowledged report, in virtual time."""

import asyncio
import logging

import pytest

from tests.unit.client.virtual_time import run
from tests.unit.worker.doubles import SECRET, RunnerFixture, job
from worker.job import AttemptId, FinishedProof, ProvingFailed

ONE = AttemptId("t-1", 1)


def test_a_proof_is_stored_until_it_is_acknowledged() -> None:
    """Without a leader the proof is stored and the attempt is held; after the acknowledgement neither is."""

    async def scenario() -> None:
        fixture = RunnerFixture()
        fixture.reporter.reachable.clear()
        fixture.runner.accept(job())
        await asyncio.sleep(300)
        assert fixture.runner.held() == (ONE,)
        assert fixture.runner.proving == 0
        assert list(fixture.store.stored) == [ONE]
        fixture.reporter.reachable.set()
        await asyncio.sleep(1)
        assert fixture.runner.held() == ()
        assert fixture.store.stored == {}
        assert [finished.proof for finished in fixture.reporter.proofs] == [b"proof of t-1"]

    run(scenario())


def test_the_start_is_reported_before_the_proof() -> None:
    """A reachable leader receives both, in that order."""

    async def scenario() -> None:
        fixture = RunnerFixture()
        fixture.runner.accept(job())
        await asyncio.sleep(0.5)
        assert (fixture.reporter.began, fixture.reporter.proofs) == ([ONE], [])
        await asyncio.sleep(1)
        assert len(fixture.reporter.proofs) == 1

    run(scenario())


def test_the_same_attempt_delivered_again_changes_nothing() -> None:
    """It is proved once and reported once, whenever it is delivered again."""

    async def scenario() -> None:
        fixture = RunnerFixture()
        fixture.runner.accept(job())
        fixture.runner.accept(job())
        await asyncio.sleep(0.5)
        fixture.runner.accept(job())
        await asyncio.sleep(5)
        assert fixture.pool.begun == [ONE]
        assert len(fixture.reporter.proofs) == 1
        assert fixture.reporter.returned == []

    run(scenario())


def test_a_newer_attempt_replaces_the_older_one() -> None:
    """The older attempt of the same task is obsolete."""

    async def scenario() -> None:
        fixture = RunnerFixture(slots=1)
        fixture.runner.accept(job(attempt=1))
        await asyncio.sleep(0.5)
        fixture.runner.accept(job(attempt=2))
        await asyncio.sleep(5)
        assert fixture.pool.cut_short == [ONE]
        assert [finished.id.attempt for finished in fixture.reporter.proofs] == [2]

    run(scenario())


def test_an_attempt_without_a_free_slot_is_released() -> None:
    """Concurrent proofs are limited by the slots; an excess attempt is released without costing a retry."""

    async def scenario() -> None:
        fixture = RunnerFixture(slots=2)
        for number in range(3):
            fixture.runner.accept(job(f"t-{number}"))
        await asyncio.sleep(5)
        assert [attempt.task_id for attempt in fixture.reporter.returned] == ["t-2"]
        assert {finished.id.task_id for finished in fixture.reporter.proofs} == {"t-0", "t-1"}

    run(scenario())


def test_a_pending_report_blocks_no_slot() -> None:
    """The next assignment may overtake the answer to the report that freed the slot."""

    async def scenario() -> None:
        fixture = RunnerFixture(slots=1)
        fixture.runner.accept(job("t-1"))
        await asyncio.sleep(0.5)
        fixture.reporter.reachable.clear()
        await asyncio.sleep(1)
        fixture.runner.accept(job("t-2"))
        fixture.reporter.reachable.set()
        await asyncio.sleep(5)
        assert fixture.reporter.returned == []
        assert [finished.id.task_id for finished in fixture.reporter.proofs] == ["t-1", "t-2"]

    run(scenario())


def test_a_dropped_attempt_is_ended_at_once() -> None:
    """The running proof is cancelled and nothing is reported."""

    async def scenario() -> None:
        fixture = RunnerFixture()
        fixture.runner.accept(job())
        await asyncio.sleep(0.5)
        fixture.runner.drop([ONE, AttemptId("unknown", 7)])
        assert fixture.runner.held() == ()
        await asyncio.sleep(5)
        assert fixture.pool.cut_short == [ONE]
        assert fixture.reporter.proofs == []
        assert fixture.reporter.failures == []
        assert fixture.metrics.outcomes == {"dropped": 1}

    run(scenario())


def test_a_dropped_proof_is_removed() -> None:
    """A finished proof that is no longer needed is removed."""

    async def scenario() -> None:
        fixture = RunnerFixture()
        fixture.reporter.reachable.clear()
        fixture.runner.accept(job())
        await asyncio.sleep(5)
        fixture.runner.drop([ONE])
        await asyncio.sleep(1)
        assert fixture.store.stored == {}

    run(scenario())


def test_an_attempt_without_a_lease_is_cancelled_at_the_start() -> None:
    """If the start report is refused, the proof is cancelled."""

    async def scenario() -> None:
        fixture = RunnerFixture(seconds=100)
        fixture.reporter.stale.add(ONE)
        fixture.runner.accept(job())
        await asyncio.sleep(1)
        assert fixture.pool.cut_short == [ONE]
        assert fixture.runner.held() == ()

    run(scenario())


def test_a_proof_that_is_refused_is_dropped() -> None:
    """ABORTED or NOT_FOUND: the proof is removed and the attempt is no longer held."""

    async def scenario() -> None:
        fixture = RunnerFixture()
        fixture.reporter.reachable.clear()
        fixture.runner.accept(job())
        await asyncio.sleep(5)
        fixture.reporter.stale.add(ONE)
        fixture.reporter.reachable.set()
        await asyncio.sleep(1)
        assert (fixture.runner.held(), fixture.store.stored) == ((), {})

    run(scenario())


@pytest.mark.parametrize(
    "failure",
    [
        ProvingFailed("unsatisfied_inputs", "no such sum", retryable=False),
        ProvingFailed("out_of_memory", "too large"),
    ],
)
def test_a_failed_proof_is_reported_as_what_it_is(failure: ProvingFailed) -> None:
    """Code and retryability reach the leader, and the slot is free again."""

    async def scenario() -> None:
        fixture = RunnerFixture(slots=1)
        fixture.pool.failure = failure
        fixture.runner.accept(job())
        await asyncio.sleep(5)
        assert fixture.reporter.failures == [(ONE, failure)]
        assert fixture.runner.held() == ()
        fixture.pool.failure = None
        fixture.runner.accept(job("t-2"))
        await asyncio.sleep(5)
        assert len(fixture.reporter.proofs) == 1

    run(scenario())


def test_an_internal_error_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """The coordinator does not wait for an attempt that failed through a bug."""

    async def scenario() -> None:
        fixture = RunnerFixture()
        fixture.pool.failure = ZeroDivisionError("a bug")
        fixture.runner.accept(job())
        await asyncio.sleep(5)
        ((attempt, failure),) = fixture.reporter.failures
        assert (attempt, failure.code, failure.retryable) == (ONE, "worker_failed", True)

    run(scenario())
    assert "ZeroDivisionError" in caplog.text


def test_a_different_verifying_key_is_a_retryable_failure() -> None:
    """A proof that the coordinator could not accept is not started."""

    async def scenario() -> None:
        fixture = RunnerFixture()
        fixture.runner.accept(job("t-1", key="cd" * 32))
        fixture.runner.accept(job("t-2", circuit="unknown"))
        await asyncio.sleep(1)
        assert [(failure.code, failure.retryable) for _, failure in fixture.reporter.failures] == [
            ("key_mismatch", True),
            ("key_mismatch", True),
        ]
        assert fixture.pool.begun == []

    run(scenario())


def test_a_full_disk_does_not_lose_a_proof() -> None:
    """A proof that cannot be stored on disk is still reported."""

    async def scenario() -> None:
        fixture = RunnerFixture()
        fixture.store.full = True
        fixture.runner.accept(job())
        await asyncio.sleep(5)
        assert len(fixture.reporter.proofs) == 1

    run(scenario())


def test_proofs_of_an_earlier_process_are_held_and_reported() -> None:
    """Proofs stored before the start are reported without being proved again."""

    async def scenario() -> None:
        fixture = RunnerFixture()
        finished = FinishedProof(ONE, b"old", 1)
        fixture.store.stored[ONE] = finished
        fixture.runner.restore([finished])
        assert fixture.runner.held() == (ONE,)
        await asyncio.sleep(1)
        assert fixture.reporter.proofs == [finished]
        assert (fixture.runner.held(), fixture.store.stored, fixture.pool.begun) == ((), {}, [])

    run(scenario())


def test_draining_finishes_what_can_be_finished() -> None:
    """A proof that finishes in time is reported; the drain ends as soon as no attempt is left."""

    async def scenario() -> float:
        fixture = RunnerFixture(seconds=3)
        fixture.runner.accept(job())
        await asyncio.sleep(1)
        await fixture.drain(30)
        assert len(fixture.reporter.proofs) == 1
        assert fixture.reporter.returned == []
        return asyncio.get_running_loop().time()

    assert run(scenario()) == pytest.approx(3.0)


def test_draining_releases_unfinished_tasks() -> None:
    """At the timeout the proof is cancelled and its task released."""

    async def scenario() -> None:
        fixture = RunnerFixture(seconds=100)
        fixture.runner.accept(job())
        await fixture.drain(10)
        await fixture.runner.close(5)
        assert fixture.pool.cut_short == [ONE]
        assert fixture.reporter.returned == [ONE]
        assert fixture.metrics.outcomes == {"released": 1}

    run(scenario())


def test_assignments_while_draining_are_released() -> None:
    """An assignment in transit is released."""

    async def scenario() -> None:
        fixture = RunnerFixture(seconds=5)
        fixture.runner.accept(job("t-1"))
        draining = asyncio.create_task(fixture.drain(30))
        await asyncio.sleep(1)
        fixture.runner.accept(job("t-2"))
        await draining
        assert [attempt.task_id for attempt in fixture.reporter.returned] == ["t-2"]
        assert [attempt.task_id for attempt in fixture.pool.begun] == ["t-1"]

    run(scenario())


def test_an_unacknowledged_proof_stays_stored() -> None:
    """If the coordinators are unavailable until the process ends, the next process finds the proof."""

    async def scenario() -> None:
        fixture = RunnerFixture()
        fixture.reporter.reachable.clear()
        fixture.runner.accept(job())
        await asyncio.sleep(2)
        await fixture.drain(10)
        await fixture.runner.close(5)
        assert list(fixture.store.stored) == [ONE]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(scenario())


def test_draining_without_a_leader_does_not_wait_for_stored_proofs() -> None:
    """Without a leader a stored proof is not waited for, and stays for the next process."""

    async def scenario() -> float:
        fixture = RunnerFixture()
        fixture.reporter.reachable.clear()
        fixture.leaderless.set()
        finished = FinishedProof(AttemptId("t-0", 1), b"old", 1)
        fixture.store.stored[finished.id] = finished
        fixture.runner.restore([finished])
        fixture.runner.accept(job())
        await asyncio.sleep(2)
        await fixture.drain(30)
        await fixture.runner.close(5)
        assert set(fixture.store.stored) == {finished.id, ONE}
        assert fixture.reporter.returned == []
        return asyncio.get_running_loop().time()

    assert run(scenario()) == pytest.approx(2.0)


def test_draining_without_a_leader_finishes_the_running_proof() -> None:
    """The drain ends once the finished proof is stored."""

    async def scenario() -> float:
        fixture = RunnerFixture(seconds=3)
        fixture.runner.accept(job())
        await asyncio.sleep(1)
        fixture.reporter.reachable.clear()
        fixture.leaderless.set()
        await fixture.drain(30)
        assert list(fixture.store.stored) == [ONE]
        return asyncio.get_running_loop().time()

    assert run(scenario()) == pytest.approx(3.0)


def test_draining_ends_when_the_leader_is_lost() -> None:
    """A leader that does not acknowledge the report is waited for only while it is the leader."""

    async def scenario() -> float:
        fixture = RunnerFixture()
        fixture.reporter.reachable.clear()
        fixture.runner.accept(job())
        await asyncio.sleep(2)
        asyncio.get_running_loop().call_later(4, fixture.leaderless.set)
        await fixture.drain(30)
        return asyncio.get_running_loop().time()

    assert run(scenario()) == pytest.approx(6.0)


def test_draining_waits_for_a_leader_if_the_proof_is_only_in_memory() -> None:
    """With a full disk, exiting would lose the proof, so the drain uses its full timeout."""

    async def scenario() -> float:
        fixture = RunnerFixture()
        fixture.store.full = True
        fixture.reporter.reachable.clear()
        fixture.leaderless.set()
        fixture.runner.accept(job())
        await asyncio.sleep(2)
        await fixture.drain(30)
        return asyncio.get_running_loop().time()

    assert run(scenario()) == pytest.approx(32.0)


def test_closing_waits_for_a_leader_within_a_limit() -> None:
    """Tasks that cannot be released are left to the expiry of their leases."""

    async def scenario() -> float:
        fixture = RunnerFixture(seconds=100)
        fixture.runner.accept(job())
        await asyncio.sleep(0.1)
        fixture.reporter.reachable.clear()
        await fixture.drain(10)
        await fixture.runner.close(5)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return asyncio.get_running_loop().time()

    assert run(scenario()) == pytest.approx(15.1)


def test_private_inputs_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """No outcome of a job puts its inputs into the log."""

    async def scenario() -> None:
        fixture = RunnerFixture()
        fixture.runner.accept(job())
        await asyncio.sleep(5)
        fixture.pool.failure = ProvingFailed("prover_failed", "no")
        fixture.runner.accept(job("t-2"))
        await asyncio.sleep(5)
        fixture.runner.accept(job("t-3"))
        fixture.runner.drop([AttemptId("t-3", 1)])
        await asyncio.sleep(1)

    with caplog.at_level(logging.DEBUG):
        run(scenario())
    assert "t-2" in str([record.__dict__ for record in caplog.records])
    assert SECRET not in str([record.__dict__ for record in caplog.records])
