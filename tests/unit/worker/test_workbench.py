"""The way of an attempt from assignment to settled report, in virtual time."""

import asyncio
import logging

import pytest

from tests.unit.client.virtual_time import run
from tests.unit.worker.doubles import SECRET, Bench, job
from worker.job import AttemptId, FinishedProof, ProvingFailed

ONE = AttemptId("t-1", 1)


def test_a_proof_is_kept_until_it_is_taken() -> None:
    """While no leader listens the proof is on the shelf and the attempt is held; afterwards neither is."""

    async def scenario() -> None:
        bench = Bench()
        bench.reporter.reachable.clear()
        bench.workbench.accept(job())
        await asyncio.sleep(300)
        assert bench.workbench.held() == (ONE,)
        assert bench.workbench.proving == 0
        assert list(bench.shelf.kept) == [ONE]
        bench.reporter.reachable.set()
        await asyncio.sleep(1)
        assert bench.workbench.held() == ()
        assert bench.shelf.kept == {}
        assert [finished.proof for finished in bench.reporter.proofs] == [b"proof of t-1"]

    run(scenario())


def test_the_start_is_reported_before_the_proof() -> None:
    """A leader in reach hears of both, in that order."""

    async def scenario() -> None:
        bench = Bench()
        bench.workbench.accept(job())
        await asyncio.sleep(0.5)
        assert (bench.reporter.began, bench.reporter.proofs) == ([ONE], [])
        await asyncio.sleep(1)
        assert len(bench.reporter.proofs) == 1

    run(scenario())


def test_the_same_attempt_delivered_again_changes_nothing() -> None:
    """It is proved once, and reported once, whenever it comes again."""

    async def scenario() -> None:
        bench = Bench()
        bench.workbench.accept(job())
        bench.workbench.accept(job())
        await asyncio.sleep(0.5)
        bench.workbench.accept(job())
        await asyncio.sleep(5)
        assert bench.pool.begun == [ONE]
        assert len(bench.reporter.proofs) == 1
        assert bench.reporter.returned == []

    run(scenario())


def test_a_newer_attempt_replaces_the_older_one() -> None:
    """The older one of the same task can no longer be anybody's wish."""

    async def scenario() -> None:
        bench = Bench(slots=1)
        bench.workbench.accept(job(attempt=1))
        await asyncio.sleep(0.5)
        bench.workbench.accept(job(attempt=2))
        await asyncio.sleep(5)
        assert bench.pool.cut_short == [ONE]
        assert [finished.id.attempt for finished in bench.reporter.proofs] == [2]

    run(scenario())


def test_one_too_many_is_handed_back() -> None:
    """No more is proved at once than there are slots; the rest costs its task no retry."""

    async def scenario() -> None:
        bench = Bench(slots=2)
        for number in range(3):
            bench.workbench.accept(job(f"t-{number}"))
        await asyncio.sleep(5)
        assert [attempt.task_id for attempt in bench.reporter.returned] == ["t-2"]
        assert {finished.id.task_id for finished in bench.reporter.proofs} == {"t-0", "t-1"}

    run(scenario())


def test_a_report_under_way_blocks_no_slot() -> None:
    """The next assignment may overtake the answer to the report that made room for it."""

    async def scenario() -> None:
        bench = Bench(slots=1)
        bench.workbench.accept(job("t-1"))
        await asyncio.sleep(0.5)
        bench.reporter.reachable.clear()
        await asyncio.sleep(1)
        bench.workbench.accept(job("t-2"))
        bench.reporter.reachable.set()
        await asyncio.sleep(5)
        assert bench.reporter.returned == []
        assert [finished.id.task_id for finished in bench.reporter.proofs] == ["t-1", "t-2"]

    run(scenario())


def test_a_dropped_attempt_is_ended_at_once() -> None:
    """The proof in progress is cut short and nothing is reported."""

    async def scenario() -> None:
        bench = Bench()
        bench.workbench.accept(job())
        await asyncio.sleep(0.5)
        bench.workbench.drop([ONE, AttemptId("unknown", 7)])
        assert bench.workbench.held() == ()
        await asyncio.sleep(5)
        assert bench.pool.cut_short == [ONE]
        assert bench.reporter.proofs == []
        assert bench.reporter.failures == []
        assert bench.tally.outcomes == {"dropped": 1}

    run(scenario())


def test_a_dropped_proof_leaves_the_shelf() -> None:
    """A finished proof that nobody wants any more is forgotten."""

    async def scenario() -> None:
        bench = Bench()
        bench.reporter.reachable.clear()
        bench.workbench.accept(job())
        await asyncio.sleep(5)
        bench.workbench.drop([ONE])
        await asyncio.sleep(1)
        assert bench.shelf.kept == {}

    run(scenario())


def test_an_attempt_that_is_not_ours_any_more_is_given_up_at_the_start() -> None:
    """When the start report is refused, no time is spent on the proof."""

    async def scenario() -> None:
        bench = Bench(seconds=100)
        bench.reporter.stale.add(ONE)
        bench.workbench.accept(job())
        await asyncio.sleep(1)
        assert bench.pool.cut_short == [ONE]
        assert bench.workbench.held() == ()

    run(scenario())


def test_a_proof_that_is_refused_is_dropped() -> None:
    """ABORTED or NOT_FOUND: the proof leaves the shelf and the attempt is no longer held."""

    async def scenario() -> None:
        bench = Bench()
        bench.reporter.reachable.clear()
        bench.workbench.accept(job())
        await asyncio.sleep(5)
        bench.reporter.stale.add(ONE)
        bench.reporter.reachable.set()
        await asyncio.sleep(1)
        assert (bench.workbench.held(), bench.shelf.kept) == ((), {})

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
        bench = Bench(slots=1)
        bench.pool.failure = failure
        bench.workbench.accept(job())
        await asyncio.sleep(5)
        assert bench.reporter.failures == [(ONE, failure)]
        assert bench.workbench.held() == ()
        bench.pool.failure = None
        bench.workbench.accept(job("t-2"))
        await asyncio.sleep(5)
        assert len(bench.reporter.proofs) == 1

    run(scenario())


def test_a_mistake_of_the_worker_is_reported_too(caplog: pytest.LogCaptureFixture) -> None:
    """The coordinator is not left waiting for an attempt that died of a bug."""

    async def scenario() -> None:
        bench = Bench()
        bench.pool.failure = ZeroDivisionError("a bug")
        bench.workbench.accept(job())
        await asyncio.sleep(5)
        ((attempt, failure),) = bench.reporter.failures
        assert (attempt, failure.code, failure.retryable) == (ONE, "worker_failed", True)

    run(scenario())
    assert "ZeroDivisionError" in caplog.text


def test_another_verifying_key_is_a_failure_elsewhere_perhaps_not() -> None:
    """A proof that the coordinator could not accept is not even begun."""

    async def scenario() -> None:
        bench = Bench()
        bench.workbench.accept(job("t-1", key="cd" * 32))
        bench.workbench.accept(job("t-2", circuit="unknown"))
        await asyncio.sleep(1)
        assert [(failure.code, failure.retryable) for _, failure in bench.reporter.failures] == [
            ("key_mismatch", True),
            ("key_mismatch", True),
        ]
        assert bench.pool.begun == []

    run(scenario())


def test_a_full_disk_does_not_lose_a_proof() -> None:
    """What cannot be kept on disk is reported all the same."""

    async def scenario() -> None:
        bench = Bench()
        bench.shelf.full = True
        bench.workbench.accept(job())
        await asyncio.sleep(5)
        assert len(bench.reporter.proofs) == 1

    run(scenario())


def test_proofs_of_an_earlier_process_are_held_and_reported() -> None:
    """What was on the shelf at the start goes to the leader without being proved again."""

    async def scenario() -> None:
        bench = Bench()
        finished = FinishedProof(ONE, b"old", 1)
        bench.shelf.kept[ONE] = finished
        bench.workbench.restore([finished])
        assert bench.workbench.held() == (ONE,)
        await asyncio.sleep(1)
        assert bench.reporter.proofs == [finished]
        assert (bench.workbench.held(), bench.shelf.kept, bench.pool.begun) == ((), {}, [])

    run(scenario())


def test_draining_finishes_what_can_be_finished() -> None:
    """A proof that is done in time is reported; drain ends as soon as nothing is left."""

    async def scenario() -> float:
        bench = Bench(seconds=3)
        bench.workbench.accept(job())
        await asyncio.sleep(1)
        await bench.drain(30)
        assert len(bench.reporter.proofs) == 1
        assert bench.reporter.returned == []
        return asyncio.get_running_loop().time()

    assert run(scenario()) == pytest.approx(3.0)


def test_draining_hands_back_what_takes_too_long() -> None:
    """At the end of its time the proof is cut short and its task goes back unharmed."""

    async def scenario() -> None:
        bench = Bench(seconds=100)
        bench.workbench.accept(job())
        await bench.drain(10)
        await bench.workbench.close(5)
        assert bench.pool.cut_short == [ONE]
        assert bench.reporter.returned == [ONE]
        assert bench.tally.outcomes == {"released": 1}

    run(scenario())


def test_what_arrives_while_draining_goes_straight_back() -> None:
    """An assignment that was on its way is not begun."""

    async def scenario() -> None:
        bench = Bench(seconds=5)
        bench.workbench.accept(job("t-1"))
        draining = asyncio.create_task(bench.drain(30))
        await asyncio.sleep(1)
        bench.workbench.accept(job("t-2"))
        await draining
        assert [attempt.task_id for attempt in bench.reporter.returned] == ["t-2"]
        assert [attempt.task_id for attempt in bench.pool.begun] == ["t-1"]

    run(scenario())


def test_a_proof_that_nobody_took_stays_on_the_shelf() -> None:
    """When coordinators are away until the process ends, the next one finds the proof."""

    async def scenario() -> None:
        bench = Bench()
        bench.reporter.reachable.clear()
        bench.workbench.accept(job())
        await asyncio.sleep(2)
        await bench.drain(10)
        await bench.workbench.close(5)
        assert list(bench.shelf.kept) == [ONE]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(scenario())


def test_draining_without_a_leader_does_not_wait_for_kept_proofs() -> None:
    """A proof on the shelf that no leader can take ends the drain at once, and stays for the next process."""

    async def scenario() -> float:
        bench = Bench()
        bench.reporter.reachable.clear()
        bench.leaderless.set()
        finished = FinishedProof(AttemptId("t-0", 1), b"old", 1)
        bench.shelf.kept[finished.id] = finished
        bench.workbench.restore([finished])
        bench.workbench.accept(job())
        await asyncio.sleep(2)
        await bench.drain(30)
        await bench.workbench.close(5)
        assert set(bench.shelf.kept) == {finished.id, ONE}
        assert bench.reporter.returned == []
        return asyncio.get_running_loop().time()

    assert run(scenario()) == pytest.approx(2.0)


def test_draining_without_a_leader_finishes_the_proof_in_work_and_ends() -> None:
    """The proof goes to the shelf when it is made, and the drain ends then."""

    async def scenario() -> float:
        bench = Bench(seconds=3)
        bench.workbench.accept(job())
        await asyncio.sleep(1)
        bench.reporter.reachable.clear()
        bench.leaderless.set()
        await bench.drain(30)
        assert list(bench.shelf.kept) == [ONE]
        return asyncio.get_running_loop().time()

    assert run(scenario()) == pytest.approx(3.0)


def test_draining_ends_when_the_leader_goes_while_it_waits() -> None:
    """A leader that does not take the report is waited for until it is gone, and no longer."""

    async def scenario() -> float:
        bench = Bench()
        bench.reporter.reachable.clear()
        bench.workbench.accept(job())
        await asyncio.sleep(2)
        asyncio.get_running_loop().call_later(4, bench.leaderless.set)
        await bench.drain(30)
        return asyncio.get_running_loop().time()

    assert run(scenario()) == pytest.approx(6.0)


def test_draining_waits_for_a_leader_when_the_proof_is_in_memory_alone() -> None:
    """With a full disk the end of the process would lose the proof: the drain uses all its time."""

    async def scenario() -> float:
        bench = Bench()
        bench.shelf.full = True
        bench.reporter.reachable.clear()
        bench.leaderless.set()
        bench.workbench.accept(job())
        await asyncio.sleep(2)
        await bench.drain(30)
        return asyncio.get_running_loop().time()

    assert run(scenario()) == pytest.approx(32.0)


def test_closing_does_not_wait_for_ever_for_a_leader() -> None:
    """Tasks that cannot be handed back are left to their leases."""

    async def scenario() -> float:
        bench = Bench(seconds=100)
        bench.workbench.accept(job())
        await asyncio.sleep(0.1)
        bench.reporter.reachable.clear()
        await bench.drain(10)
        await bench.workbench.close(5)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return asyncio.get_running_loop().time()

    assert run(scenario()) == pytest.approx(15.1)


def test_private_inputs_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever happens to a job, nothing of its inputs is in the log."""

    async def scenario() -> None:
        bench = Bench()
        bench.workbench.accept(job())
        await asyncio.sleep(5)
        bench.pool.failure = ProvingFailed("prover_failed", "no")
        bench.workbench.accept(job("t-2"))
        await asyncio.sleep(5)
        bench.workbench.accept(job("t-3"))
        bench.workbench.drop([AttemptId("t-3", 1)])
        await asyncio.sleep(1)

    with caplog.at_level(logging.DEBUG):
        run(scenario())
    assert "t-2" in str([record.__dict__ for record in caplog.records])
    assert SECRET not in str([record.__dict__ for record in caplog.records])
