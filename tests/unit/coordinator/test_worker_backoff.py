"""What the leader learns from attempts that ended."""

from coordinator.leader.worker_backoff import WorkerBackoff
from coordinator.state.commands import Cancel, Fail, LoseLease
from tests.unit.coordinator.fakes import (
    LocalReplicator,
    assign,
    complete,
    leader,
    register,
    submit,
)


def learning(now: float = 0.0) -> tuple[LocalReplicator, WorkerBackoff]:
    replicator = leader()
    backoff = WorkerBackoff()
    replicator.on_events(lambda events: backoff.observe(events, now))
    register(replicator, "worker-1")
    return replicator, backoff


def fail(replicator: LocalReplicator, task_id: str, code: str = "prover_failed", *, released: bool = False) -> None:
    task = assign(replicator, task_id, "worker-1")
    command = Fail(task_id, "worker-1", task.attempt, code, "", retryable=True, released=released)
    assert replicator.apply(command).refusal is None


def test_a_task_is_kept_from_the_worker_that_failed_it_until_it_ends() -> None:
    """Failed and lost attempts count, and a task that ended is forgotten."""
    replicator, backoff = learning()
    submit(replicator, "failed")
    submit(replicator, "lost")
    fail(replicator, "failed")
    assign(replicator, "lost", "worker-1")
    replicator.apply(LoseLease("lost", 1, "timeout", ""))
    assert dict(backoff.last_failed_by) == {"failed": "worker-1", "lost": "worker-1"}
    replicator.apply(Cancel("failed"))
    complete(replicator, assign(replicator, "lost", "worker-1"))
    assert dict(backoff.last_failed_by) == {}


def test_a_worker_that_fails_again_and_again_rests_longer_each_time_up_to_a_bound() -> None:
    """A worker that fails everything at once must not burn the retries of a whole queue."""
    replicator, backoff = learning()
    rests = []
    for number in range(12):
        submit(replicator, f"t{number}")
        fail(replicator, f"t{number}")
        replicator.apply(Cancel(f"t{number}"))
        rests.append(backoff.next_expiry(0.0))
    assert rests[:5] == [None, None, 0.5, 1.0, 2.0]
    assert rests[-1] == 30.0
    assert backoff.backing_off(29.9) == {"worker-1"}
    assert backoff.backing_off(30.0) == set()


def test_a_success_wipes_the_slate() -> None:
    """Failures count only in a row."""
    replicator, backoff = learning()
    for number in range(6):
        submit(replicator, f"t{number}")
        fail(replicator, f"t{number}")
        if number % 2:
            submit(replicator, f"good{number}")
            complete(replicator, assign(replicator, f"good{number}", "worker-1"))
    assert backoff.next_expiry(0.0) is None


def test_inputs_that_do_not_satisfy_the_circuit_are_not_the_workers_fault() -> None:
    """A client's bad tasks make no worker rest."""
    replicator, backoff = learning()
    for number in range(9):
        submit(replicator, f"t{number}", max_retries=0)
        fail(replicator, f"t{number}", "unsatisfied_inputs")
    assert backoff.next_expiry(0.0) is None


def test_a_worker_that_hands_back_rests_and_its_next_process_does_not() -> None:
    """Otherwise a stopping worker would be assigned its own task repeatedly."""
    replicator, backoff = learning()
    submit(replicator, "t")
    fail(replicator, "t", "released", released=True)
    assert backoff.backing_off(0.5) == {"worker-1"}
    assert dict(backoff.last_failed_by) == {}
    register(replicator, "worker-1", incarnation="second")
    assert backoff.backing_off(0.5) == set()
