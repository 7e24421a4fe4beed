"""Which task goes to which worker."""

from collections.abc import Callable, Iterable, Mapping

from hypothesis import given
from hypothesis import strategies as st

from coordinator.leader.scheduler import PendingTasks, plan
from coordinator.state.commands import Assign, Cancel, Fail
from tests.unit.coordinator.fakes import LocalReplicator, assign, leader, register, submit


def decide(
    replicator: LocalReplicator,
    pending: PendingTasks | None = None,
    *,
    connected: Iterable[str] | None = None,
    backing_off: Iterable[str] = (),
    last_failed_by: Mapping[str, str] | None = None,
    serves: Callable[[str], bool] = lambda _: True,
    limit: int = 100,
) -> list[Assign]:
    return plan(
        replicator.state,
        pending or PendingTasks(replicator.state),
        connected=list(replicator.state.workers) if connected is None else connected,
        backing_off=set(backing_off),
        last_failed_by=last_failed_by or {},
        serves=serves,
        limit=limit,
    )


def test_the_longest_waiting_task_goes_first() -> None:
    """First come, first served, across circuits."""
    replicator = leader()
    register(replicator, "worker-1", capacity=2, circuits_=("addition", "range_proof"))
    submit(replicator, "a", "range_proof")
    submit(replicator, "b", "addition")
    submit(replicator, "c", "range_proof")
    assert decide(replicator) == [Assign("a", "worker-1"), Assign("b", "worker-1")]


def test_load_is_spread_by_the_share_of_slots_in_use() -> None:
    """A worker with four slots gets twice as much as one with two."""
    replicator = leader()
    register(replicator, "large", capacity=4)
    register(replicator, "small", capacity=2)
    for number in range(3):
        submit(replicator, f"t{number}")
    workers = [assignment.worker_id for assignment in decide(replicator)]
    assert sorted(workers) == ["large", "large", "small"]


def test_slots_that_are_taken_already_count() -> None:
    """Leases from before the round are part of the load."""
    replicator = leader()
    register(replicator, "worker-1", capacity=2)
    register(replicator, "worker-2", capacity=2)
    submit(replicator, "before")
    assign(replicator, "before", "worker-1")
    for number in range(5):
        submit(replicator, f"t{number}")
    workers = sorted(assignment.worker_id for assignment in decide(replicator))
    assert workers == ["worker-1", "worker-2", "worker-2"]


def test_only_connected_workers_are_given_tasks() -> None:
    """A worker without a stream could not be told."""
    replicator = leader()
    register(replicator, "worker-1")
    submit(replicator, "t")
    assert decide(replicator, connected=[]) == []
    assert decide(replicator, connected=["worker-1", "a stranger"]) == [Assign("t", "worker-1")]


def test_a_circuit_that_nobody_can_prove_holds_up_no_other() -> None:
    """However many tasks of it are first in the queue."""
    replicator = leader()
    register(replicator, "worker-1", circuits_=("addition",))
    for number in range(1_000):
        submit(replicator, f"stuck{number}", "merkle_proof")
    submit(replicator, "t", "addition")
    assert decide(replicator) == [Assign("t", "worker-1")]


def test_a_circuit_that_this_node_cannot_check_is_left_alone() -> None:
    """Its proofs could not be accepted here."""
    replicator = leader()
    register(replicator, "worker-1", circuits_=("addition", "range_proof"))
    submit(replicator, "a", "range_proof")
    submit(replicator, "b", "addition")
    assert decide(replicator, serves=lambda circuit: circuit == "addition") == [Assign("b", "worker-1")]


def test_a_retried_task_goes_to_another_worker() -> None:
    """The worker that just failed it gets the next task instead."""
    replicator = leader()
    register(replicator, "worker-1")
    register(replicator, "worker-2")
    submit(replicator, "retried")
    submit(replicator, "fresh")
    decided = decide(replicator, last_failed_by={"retried": "worker-1"})
    assert decided == [Assign("retried", "worker-2"), Assign("fresh", "worker-1")]


def test_a_retried_task_waits_for_another_worker_that_is_busy() -> None:
    """Retries are few: they are not spent on the worker that fails fast while the good one proves."""
    replicator = leader()
    register(replicator, "good")
    register(replicator, "bad")
    submit(replicator, "running")
    assign(replicator, "running", "good")
    submit(replicator, "retried")
    assert decide(replicator, last_failed_by={"retried": "bad"}) == []


def test_a_retried_task_goes_back_when_no_other_worker_can_prove_it() -> None:
    """A network of one worker retries on that worker."""
    replicator = leader()
    register(replicator, "only")
    register(replicator, "other", circuits_=("range_proof",))
    submit(replicator, "retried")
    assert decide(replicator, last_failed_by={"retried": "only"}) == [Assign("retried", "only")]


def test_resting_workers_get_nothing() -> None:
    """Not even as the last resort: the rest is short."""
    replicator = leader()
    register(replicator, "worker-1")
    submit(replicator, "t")
    assert decide(replicator, backing_off=["worker-1"]) == []


def test_a_round_is_bounded() -> None:
    """The number of assignments per round is bounded."""
    replicator = leader()
    register(replicator, "worker-1", capacity=50)
    for number in range(50):
        submit(replicator, f"t{number}")
    assert len(decide(replicator, limit=7)) == 7


def test_a_returned_task_is_next_in_line() -> None:
    """The lines keep the order of the replicated queue when tasks come back and leave."""
    replicator = leader()
    register(replicator, "worker-1", capacity=3)
    pending = PendingTasks(replicator.state)
    replicator.on_events(pending.observe)
    for task_id in ("a", "b", "c", "d"):
        submit(replicator, task_id)
    assign(replicator, "a", "worker-1")
    replicator.apply(Cancel("b"))
    replicator.apply(Fail("a", "worker-1", 1, "prover_failed", "", retryable=True))
    order = [assignment.task_id for assignment in decide(replicator, pending)]
    assert order == ["a", "c", "d"] == list(replicator.state.queue)


def test_a_long_queue_is_read_in_parts_while_it_changes() -> None:
    """A new leader reads it between its heartbeats; the order is that of the replicated queue all the same."""
    replicator = leader()
    register(replicator, "worker-1", capacity=3)
    for task_id in ("a", "b", "c", "d", "e"):
        submit(replicator, task_id)
    pending = PendingTasks(replicator.state)
    replicator.on_events(pending.observe)
    assert not pending.read(2)
    submit(replicator, "f")
    assign(replicator, "d", "worker-1")
    replicator.apply(Cancel("e"))
    assert not pending.read(2)
    replicator.apply(Fail("d", "worker-1", 1, "prover_failed", "", retryable=True))
    assert pending.read(2)
    assert pending.read(2)
    (queue,) = (list(queue) for _, queue in pending.queues())
    assert [task_id for task_id, _ in queue] == ["d", "a", "b", "c", "f"] == list(replicator.state.queue)


WORKERS = ("w0", "w1", "w2")
CIRCUITS = ("addition", "range_proof")


@given(
    capacities=st.lists(st.integers(1, 4), min_size=3, max_size=3),
    abilities=st.lists(st.sets(st.sampled_from(CIRCUITS), min_size=1), min_size=3, max_size=3),
    queue=st.lists(st.sampled_from(CIRCUITS), max_size=20),
    connected=st.sets(st.sampled_from(WORKERS)),
    last_failed_by=st.dictionaries(st.integers(0, 19).map("t{}".format), st.sampled_from(WORKERS)),
    limit=st.integers(1, 10),
)
def test_every_decision_is_accepted_and_no_free_slot_is_wasted(
    *,
    capacities: list[int],
    abilities: list[set[str]],
    queue: list[str],
    connected: set[str],
    last_failed_by: dict[str, str],
    limit: int,
) -> None:
    """Whatever the cluster looks like: the state accepts each assignment, and unless the bound was reached nothing
    is left that somebody else than the avoided worker could take."""
    replicator = leader()
    for worker_id, capacity, able in zip(WORKERS, capacities, abilities, strict=True):
        register(replicator, worker_id, capacity, sorted(able))
    for number, circuit in enumerate(queue):
        submit(replicator, f"t{number}", circuit)
    decided = decide(replicator, connected=connected, last_failed_by=last_failed_by, limit=limit)
    assert len(decided) <= limit
    for assignment in decided:
        assert assignment.worker_id in connected
        assert replicator.apply(assignment).refusal is None
    if len(decided) == limit:
        return
    state = replicator.state
    for task_id in state.queue:
        for worker_id in connected - {last_failed_by.get(task_id)}:
            worker = state.workers[worker_id]
            full = len(state.leases.get(worker_id, ())) >= worker.capacity
            assert full or state.tasks[task_id].circuit not in worker.circuits
