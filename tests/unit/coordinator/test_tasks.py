"""What clients ask of the leader."""

import asyncio

import pytest

from coordinator.errors import (
    AlreadyExists,
    CoordinatorError,
    InvalidRequest,
    NotFound,
    Overloaded,
    TaskEnded,
    Unavailable,
)
from coordinator.leader.watchers import TaskWatchers
from coordinator.raft import NotLeader, OutcomeUnknown
from coordinator.services.circuit_keys import CircuitKeys
from coordinator.services.tasks import AcceptedTask, TaskLimits, Tasks
from coordinator.state.commands import Cancel, Projected
from coordinator.state.model import TaskState
from tests.unit.coordinator.fakes import (
    KEY,
    FakeRecord,
    LocalReplicator,
    assign,
    complete,
    leader,
    register,
    submission,
    submit,
)
from zkp.proofs import circuits

LIMITS = TaskLimits(max_backlog=5, max_unprojected=1_000, max_retries=3)


def tasks_of(
    replicator: LocalReplicator,
    record: FakeRecord | None = None,
    limits: TaskLimits = LIMITS,
    keys: dict[str, str] | None = None,
) -> Tasks:
    watches = TaskWatchers(10)
    replicator.on_events(watches.observe)
    local = dict.fromkeys(circuits.NAMES, KEY) if keys is None else keys
    return Tasks(replicator, record or FakeRecord(), CircuitKeys(local, replicator), watches, limits)


async def test_a_submission_is_accepted_as_sent() -> None:
    """With the submitter, and the coordinator's number of retries where none is given."""
    replicator = leader()
    accepted = await tasks_of(replicator).submit(submission("t"), "client/alice")
    assert not accepted.duplicate
    assert (accepted.task.id, accepted.task.submitter, accepted.task.max_retries) == ("t", "client/alice", 3)
    assert accepted.task.public_inputs == ("3",)
    assert accepted.task.state is TaskState.PENDING


async def test_simultaneous_submissions_of_one_id_make_one_task() -> None:
    """The state machine deduplicates concurrent submissions of one id."""
    replicator = leader()
    tasks = tasks_of(replicator)
    results = await asyncio.gather(*(tasks.submit(submission("t"), "client/alice") for _ in range(5)))
    assert sorted(result.duplicate for result in results) == [False, True, True, True, True]
    assert len(replicator.state.tasks) == 1


async def test_another_submission_under_a_known_id_is_refused() -> None:
    """An idempotency key stands for one content."""
    tasks = tasks_of(leader())
    await tasks.submit(submission("t", a=1), "client/alice")
    with pytest.raises(AlreadyExists):
        await tasks.submit(submission("t", a=5), "client/alice")


@pytest.mark.parametrize("max_retries", [11, 2**31])
async def test_retries_are_bounded(max_retries: int) -> None:
    """A task cannot ask for more retries than the network allows."""
    with pytest.raises(InvalidRequest) as refused:
        await tasks_of(leader()).submit(submission("t", max_retries=max_retries), "client/alice")
    assert refused.value.field == "max_retries"


async def test_the_backlog_is_bounded_and_known_ids_still_answer() -> None:
    """Above the bound new tasks are refused with a time to come back; asking about an accepted one is not new."""
    replicator = leader()
    tasks = tasks_of(replicator)
    for number in range(LIMITS.max_backlog):
        await tasks.submit(submission(f"t{number}"), "client/alice")
    with pytest.raises(Overloaded) as refused:
        await tasks.submit(submission("one more"[:3]), "client/alice")
    assert refused.value.retry_after_s > 0
    assert (await tasks.submit(submission("t0"), "client/alice")).duplicate
    replicator.apply(Cancel("t0"))
    await tasks.submit(submission("t5"), "client/alice")


async def test_submissions_under_way_count_towards_the_bound() -> None:
    """A burst that arrives before its first task exists cannot run over the bound."""
    replicator = leader()
    tasks = tasks_of(replicator)
    results = await tasks.submit_many([submission(f"t{number}") for number in range(8)], "client/alice")
    assert [isinstance(result, AcceptedTask) for result in results] == [True] * 5 + [False] * 3
    assert all(isinstance(result, Overloaded) for result in results[5:])
    replicator.log.failures = [OutcomeUnknown("lost")]
    replicator.apply(Cancel("t0"))
    with pytest.raises(OutcomeUnknown):
        await tasks.submit(submission("t5"), "client/alice")
    assert not (await tasks.submit(submission("t5"), "client/alice")).duplicate


async def test_events_that_the_record_lacks_are_bounded() -> None:
    """PostgreSQL away for long: submissions stop before memory does, and go on once it has caught up."""
    replicator = leader()
    tasks = tasks_of(replicator, limits=TaskLimits(100, 5, 3))
    for number in range(2):
        await tasks.submit(submission(f"t{number}"), "client/alice")
    with pytest.raises(Overloaded, match="PostgreSQL"):
        await tasks.submit(submission("t2"), "client/alice")
    replicator.apply(Projected(replicator.state.revision, 0))
    await tasks.submit(submission("t2"), "client/alice")


async def test_many_submissions_are_judged_one_by_one_and_answered_in_order() -> None:
    """One bad submission among good ones spoils none of them."""
    replicator = leader()
    batch = [submission("a"), submission("b c"), submission("a"), submission("a", a=9)]
    results = await tasks_of(replicator).submit_many(batch, "gateway/edge")
    assert isinstance(results[0], AcceptedTask)
    assert isinstance(results[1], InvalidRequest)
    assert results[1].field == "task_id"
    assert isinstance(results[2], AcceptedTask)
    assert results[2].duplicate
    assert isinstance(results[3], AlreadyExists)


async def test_a_large_request_lets_the_event_loop_breathe() -> None:
    """Raft's heartbeats run on the same loop: checking a thousand submissions gives it turns in between."""
    replicator = leader()
    tasks = tasks_of(replicator, limits=TaskLimits(10_000, 10_000, 3))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    await tasks.submit_many([submission(f"t{number}") for number in range(1_000)], "client/alice")
    counting.cancel()
    assert turns > 20


async def test_requests_of_more_than_a_thousand_are_refused() -> None:
    """As the API says."""
    with pytest.raises(InvalidRequest, match="submissions"):
        await tasks_of(leader()).submit_many([submission("t")] * 1_001, "client/alice")


async def test_a_follower_does_nothing_itself() -> None:
    """Every use case of a node that does not lead says who does."""
    replicator = leader()
    replicator.depose("coordinator-2")
    tasks = tasks_of(replicator)
    for call in (
        lambda: tasks.submit(submission("t"), "client/alice"),
        lambda: tasks.submit_many([submission("t")], "client/alice"),
        lambda: tasks.get("t"),
        lambda: tasks.page(None, None, 10, ""),
        lambda: tasks.cancel("t"),
        lambda: anext(tasks.watch("t")),
    ):
        with pytest.raises(NotLeader) as refused:
            await call()
        assert refused.value.leader_id == "coordinator-2"


async def test_reads_wait_for_everything_accepted_before_them() -> None:
    """A read passes a barrier, which a deposed leader
    that does not know it cannot pass."""
    replicator = leader()
    tasks = tasks_of(replicator)
    submit(replicator, "t")
    replicator.on_barrier = lambda: replicator.depose("coordinator-2")
    with pytest.raises(NotLeader):
        await tasks.get("t")


async def test_forgotten_tasks_are_read_from_the_record() -> None:
    """Memory is bounded; what left it is still known."""
    replicator = leader()
    register(replicator, "worker-1")
    submit(replicator, "t")
    complete(replicator, assign(replicator, "t", "worker-1"))
    record = FakeRecord({"t": replicator.state.tasks["t"]})
    replicator.apply(Projected(replicator.state.revision, replicator.state.revision))
    assert "t" not in replicator.state.tasks
    tasks = tasks_of(replicator, record)
    assert (await tasks.get("t")).state is TaskState.COMPLETED
    assert [version.state async for version in tasks.watch("t")] == [TaskState.COMPLETED]
    with pytest.raises(TaskEnded, match="completed"):
        await tasks.cancel("t")
    with pytest.raises(NotFound):
        await tasks.get("another")


async def test_an_unknown_task_is_not_called_missing_while_the_record_is_away() -> None:
    """The answer is "not found" only while the projection can be read."""
    tasks = tasks_of(leader(), FakeRecord(failure=Unavailable("away")))
    with pytest.raises(Unavailable):
        await tasks.get("t")


async def test_cancelling_twice_succeeds_and_cancelling_a_result_does_not() -> None:
    """Cancellation is idempotent and cannot undo a proof."""
    replicator = leader()
    register(replicator, "worker-1")
    tasks = tasks_of(replicator)
    submit(replicator, "a")
    submit(replicator, "b")
    complete(replicator, assign(replicator, "b", "worker-1"))
    assert (await tasks.cancel("a")).state is TaskState.CANCELLED
    assert (await tasks.cancel("a")).state is TaskState.CANCELLED
    with pytest.raises(TaskEnded, match="already completed"):
        await tasks.cancel("b")
    with pytest.raises(NotFound):
        await tasks.cancel("c")


@pytest.mark.parametrize(
    ("keys", "refusal"),
    [({}, InvalidRequest), ({"addition": "cd" * 32}, Unavailable)],
)
async def test_a_circuit_that_this_node_cannot_check_takes_no_tasks(
    keys: dict[str, str], refusal: type[CoordinatorError]
) -> None:
    """Without a key no node can serve it; with a key that differs from the cluster's, another node may."""
    with pytest.raises(refusal, match="circuit"):
        await tasks_of(leader(), keys=keys).submit(submission("t"), "client/alice")


@pytest.mark.parametrize(("asked", "size"), [(0, 100), (1, 1), (1_000, 1_000)])
async def test_pages_have_a_usual_size(asked: int, size: int) -> None:
    """0 means a hundred."""
    record = FakeRecord()
    await tasks_of(leader(), record).page(TaskState.FAILED, "addition", asked, "token")
    assert record.asked == [(TaskState.FAILED, "addition", size, "token")]


async def test_pages_are_bounded() -> None:
    """A page of the whole record would not fit in memory."""
    with pytest.raises(InvalidRequest, match="page_size"):
        await tasks_of(leader()).page(None, None, 1_001, "")
