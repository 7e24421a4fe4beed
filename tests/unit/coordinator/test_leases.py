"""Deadlines of workers and attempts: the leader's soft state."""

from coordinator.leader.leases import Leases, LeaseTiming
from coordinator.state.commands import Fail, LoseLease, MarkOffline
from tests.unit.coordinator.fakes import assign, complete, leader, register, start, submit

TIMING = LeaseTiming(lease_s=10, start_s=30, limit_s=100)


def sweep_until(leases: Leases, start_s: float, end_s: float, *heard: str) -> list[object]:
    """Sweep every second from just after start_s to end_s; `heard` send heartbeats all the while."""
    commands: list[object] = []
    now = start_s
    while now < end_s:
        now += 1
        for worker_id in heard:
            leases.heard(worker_id, now)
        commands += leases.expired(now)
    return commands


def test_a_silent_worker_is_marked_offline_when_its_lease_ends() -> None:
    """Silence for the lease, and not a second less, takes a worker off."""
    replicator = leader()
    register(replicator, "worker-1")
    leases = Leases(TIMING)
    leases.begin(replicator.state, 0)
    assert sweep_until(leases, 0, 9) == []
    assert sweep_until(leases, 9, 10) == [MarkOffline("worker-1", "first")]


def test_heartbeats_keep_a_worker_online() -> None:
    """A worker that is heard from is never overdue."""
    replicator = leader()
    register(replicator, "worker-1")
    leases = Leases(TIMING)
    leases.begin(replicator.state, 0)
    assert sweep_until(leases, 0, 60, "worker-1") == []


def test_a_new_leader_grants_every_lease_one_fresh_period() -> None:
    """What an earlier leader had heard counts for nothing: the periods begin when leadership does."""
    replicator = leader()
    register(replicator, "worker-1")
    submit(replicator, "t")
    start(replicator, assign(replicator, "t", "worker-1"))
    leases = Leases(TIMING)
    leases.begin(replicator.state, 5_000)
    assert leases.last_heard("worker-1") is None
    assert sweep_until(leases, 5_000, 5_009) == []
    assert sweep_until(leases, 5_009, 5_010) == [MarkOffline("worker-1", "first")]


def test_a_task_stuck_in_assigned_is_taken_back() -> None:
    """An assigned task that is not started within the limit is revoked."""
    replicator = leader()
    register(replicator, "worker-1")
    leases = Leases(TIMING)
    replicator.on_events(lambda events: leases.observe(events, 0))
    leases.begin(replicator.state, 0)
    submit(replicator, "t")
    assign(replicator, "t", "worker-1")
    assert sweep_until(leases, 0, 29, "worker-1") == []
    assert sweep_until(leases, 29, 30, "worker-1") == [LoseLease("t", 1, "timeout", "not started within 30 s")]


def test_an_attempt_that_overruns_its_time_is_taken_back() -> None:
    """The time limit runs from the start report."""
    replicator = leader()
    register(replicator, "worker-1")
    leases = Leases(TIMING)
    now = 0.0
    replicator.on_events(lambda events: leases.observe(events, now))
    leases.begin(replicator.state, 0)
    submit(replicator, "t")
    task = assign(replicator, "t", "worker-1")
    assert sweep_until(leases, 0, 20, "worker-1") == []
    now = 20.0
    start(replicator, task)
    assert sweep_until(leases, 20, 119, "worker-1") == []
    assert sweep_until(leases, 119, 120, "worker-1") == [LoseLease("t", 1, "timeout", "no result within 100 s")]


def test_ended_attempts_have_no_deadline() -> None:
    """Completed and returned tasks are forgotten at once."""
    replicator = leader()
    register(replicator, "worker-1", capacity=2)
    leases = Leases(TIMING)
    replicator.on_events(lambda events: leases.observe(events, 0))
    leases.begin(replicator.state, 0)
    submit(replicator, "done")
    submit(replicator, "failed", max_retries=0)
    complete(replicator, assign(replicator, "done", "worker-1"))
    assign(replicator, "failed", "worker-1")
    replicator.apply(Fail("failed", "worker-1", 1, "prover_failed", "", retryable=False))
    assert sweep_until(leases, 0, 500, "worker-1") == []


def test_what_is_overdue_is_proposed_again_until_it_is_agreed() -> None:
    """A proposal that got lost comes back one lease later; one that was agreed on does not."""
    replicator = leader()
    register(replicator, "worker-1")
    leases = Leases(TIMING)
    replicator.on_events(lambda events: leases.observe(events, 20))
    leases.begin(replicator.state, 0)
    offline = MarkOffline("worker-1", "first")
    assert sweep_until(leases, 0, 10) == [offline]
    assert sweep_until(leases, 10, 19) == []
    assert sweep_until(leases, 19, 20) == [offline]
    replicator.apply(offline)
    assert sweep_until(leases, 20, 100) == []


def test_a_leader_that_slept_blames_nobody_for_it() -> None:
    """After a pause of this very process every lease gets a fresh period, since heartbeats waited in its sockets."""
    replicator = leader()
    register(replicator, "worker-1")
    leases = Leases(TIMING)
    leases.begin(replicator.state, 0)
    assert sweep_until(leases, 0, 3) == []
    assert leases.expired(500) == []
    assert sweep_until(leases, 500, 509) == []
    assert sweep_until(leases, 509, 510) == [MarkOffline("worker-1", "first")]


def test_a_restarted_worker_gets_a_lease_of_its_own() -> None:
    """Registration counts as a sign of life, and the new process answers for itself."""
    replicator = leader()
    register(replicator, "worker-1")
    leases = Leases(TIMING)
    replicator.on_events(lambda events: leases.observe(events, 8))
    leases.begin(replicator.state, 0)
    sweep_until(leases, 0, 8)
    register(replicator, "worker-1", incarnation="second")
    assert leases.last_heard("worker-1") == 8
    assert sweep_until(leases, 8, 17) == []
    assert sweep_until(leases, 17, 18) == [MarkOffline("worker-1", "second")]


def test_a_deposed_leader_blames_nobody() -> None:
    """The end of leadership is the end of its deadlines."""
    replicator = leader()
    register(replicator, "worker-1")
    leases = Leases(TIMING)
    leases.begin(replicator.state, 0)
    leases.end()
    assert sweep_until(leases, 0, 50) == []
