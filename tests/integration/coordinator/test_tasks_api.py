"""TaskService and AdminService over a real connection."""

from collections.abc import AsyncIterator

import grpc
import pytest

from coordinator.raft import OutcomeUnknown
from coordinator.state.commands import Quarantine
from pki.x509.identity import Role
from tests.integration.coordinator.front import LEADER_ADDRESS, Front, message, submission
from tests.unit.coordinator.fakes import GOOD_PROOF, KEY, assign, complete, register, start, submit
from zkp.protocol.v1 import coordinator_pb2 as pb
from zkp.protocol.v1 import coordinator_pb2_grpc as pb_grpc


@pytest.fixture
async def tasks(leader: Front) -> AsyncIterator["pb_grpc.TaskServiceAsyncStub"]:
    async with leader.channel("alice", Role.CLIENT) as channel:
        yield pb_grpc.TaskServiceStub(channel)


@pytest.fixture
async def admin(leader: Front) -> AsyncIterator["pb_grpc.AdminServiceAsyncStub"]:
    async with leader.channel("root", Role.ADMIN) as channel:
        yield pb_grpc.AdminServiceStub(channel)


def metadata_of(error: grpc.aio.AioRpcError) -> dict[str, object]:
    return dict(error.trailing_metadata() or ())


async def test_a_task_is_submitted_read_and_told_apart_from_another(
    leader: Front, tasks: "pb_grpc.TaskServiceAsyncStub"
) -> None:
    """Accepted, the same again, and another one under the same id."""
    first = await tasks.SubmitTask(pb.SubmitTaskRequest(submission=submission("t")), timeout=5)
    again = await tasks.SubmitTask(pb.SubmitTaskRequest(submission=submission("t")), timeout=5)
    assert (first.duplicate, again.duplicate) == (False, True)
    assert again.task == first.task == await tasks.GetTask(pb.GetTaskRequest(task_id="t"), timeout=5)
    assert first.task.state == pb.TASK_STATE_PENDING
    assert first.task.verifying_key_sha256 == KEY
    assert first.task.HasField("created_at")
    assert not first.task.HasField("finished_at")
    assert leader.replicator.state.tasks["t"].submitter == "client/alice"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await tasks.SubmitTask(pb.SubmitTaskRequest(submission=submission("t", a=9)), timeout=5)
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_a_bad_submission_is_refused_with_its_field(
    leader: Front, tasks: "pb_grpc.TaskServiceAsyncStub"
) -> None:
    """In words and as metadata, and nothing is written."""
    bad = submission("t")
    bad.public_inputs[0] = "not a number"
    before = leader.replicator.log.index
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await tasks.SubmitTask(pb.SubmitTaskRequest(submission=bad), timeout=5)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert metadata_of(refused.value)["zkp-field"] == "public_inputs[0]"
    assert leader.replicator.log.index == before


async def test_many_submissions_in_one_request(leader: Front, tasks: "pb_grpc.TaskServiceAsyncStub") -> None:
    """Each has its own result, in order; the good ones are queued together."""
    request = pb.SubmitTasksRequest(submissions=[submission("a"), pb.Submission(task_id="b c"), submission("d")])
    answer = await tasks.SubmitTasks(request, timeout=5)
    assert [result.WhichOneof("outcome") for result in answer.results] == ["accepted", "refused", "accepted"]
    refused = answer.results[1].refused
    assert (refused.status, refused.field) == ("INVALID_ARGUMENT", "task_id")
    assert list(leader.replicator.state.queue) == ["a", "d"]


async def test_submissions_on_a_stream_are_answered_in_order(
    leader: Front, tasks: "pb_grpc.TaskServiceAsyncStub"
) -> None:
    """Five hundred of them, every tenth a repetition."""
    ids = [f"t{number - number % 10 if number % 10 == 9 else number}" for number in range(500)]

    async def send() -> AsyncIterator[pb.Submission]:
        for task_id in ids:
            yield submission(task_id)

    results = [result async for result in tasks.StreamSubmissions(send(), timeout=30)]
    assert [result.accepted.task.id for result in results] == ids
    assert sum(result.accepted.duplicate for result in results) == 50
    assert len(leader.replicator.state.tasks) == 450


async def test_batches_on_a_stream_are_answered_in_order(
    leader: Front, tasks: "pb_grpc.TaskServiceAsyncStub"
) -> None:
    """A response for each request, a result for each submission, refusals among them."""
    requests = [
        pb.SubmitTasksRequest(submissions=[submission(f"{number}-{place}") for place in range(number)])
        for number in (3, 100, 1)
    ]
    requests.append(pb.SubmitTasksRequest(submissions=[submission("last"), pb.Submission(task_id="b c")]))

    async def send() -> AsyncIterator[pb.SubmitTasksRequest]:
        for request in requests:
            yield request

    answers = [answer async for answer in tasks.StreamBatches(send(), timeout=30)]
    assert [[result.accepted.task.id for result in answer.results] for answer in answers[:3]] == [
        [message.task_id for message in request.submissions] for request in requests[:3]
    ]
    assert [result.WhichOneof("outcome") for result in answers[3].results] == ["accepted", "refused"]
    assert len(leader.replicator.state.tasks) == 105


async def test_a_follower_redirects_in_text_and_metadata(
    leader: Front, tasks: "pb_grpc.TaskServiceAsyncStub"
) -> None:
    """Unary calls and streams alike; without a known leader the address is absent."""
    leader.replicator.depose("coordinator-2")

    async def one() -> AsyncIterator[pb.Submission]:
        yield submission("t")

    async def batch() -> AsyncIterator[pb.SubmitTasksRequest]:
        yield pb.SubmitTasksRequest(submissions=[submission("t")])

    for call in (
        lambda: tasks.SubmitTask(pb.SubmitTaskRequest(submission=submission("t")), timeout=5),
        lambda: tasks.WatchTask(pb.WatchTaskRequest(task_id="t"), timeout=5).read(),
        lambda: tasks.StreamSubmissions(one(), timeout=5).read(),
        lambda: tasks.StreamBatches(batch(), timeout=5).read(),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call()
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert refused.value.details() == f"Not leader, connect to: {LEADER_ADDRESS}"
        assert metadata_of(refused.value)["zkp-leader"] == LEADER_ADDRESS
    leader.replicator.depose(None)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await tasks.GetTask(pb.GetTaskRequest(task_id="t"), timeout=5)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert (refused.value.details() or "").startswith("Not leader")
    assert "zkp-leader" not in metadata_of(refused.value)
    assert leader.replicator.state.tasks == {}


async def test_an_unknown_outcome_asks_for_the_same_id_again(
    leader: Front, tasks: "pb_grpc.TaskServiceAsyncStub"
) -> None:
    """And that then works."""
    leader.replicator.log.failures = [OutcomeUnknown("no quorum in time")]
    request = pb.SubmitTaskRequest(submission=submission("t"))
    with pytest.raises(grpc.aio.AioRpcError, match="same id again") as refused:
        await tasks.SubmitTask(request, timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    assert not (await tasks.SubmitTask(request, timeout=5)).duplicate


async def test_an_overload_names_the_time_to_come_back(leader: Front, tasks: "pb_grpc.TaskServiceAsyncStub") -> None:
    """RESOURCE_EXHAUSTED with seconds in the metadata."""
    for number in range(1_000):
        submit(leader.replicator, f"t{number}")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await tasks.SubmitTask(pb.SubmitTaskRequest(submission=submission("one-more")), timeout=5)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert float(str(metadata_of(refused.value)["retry-after"])) > 0


async def test_a_watch_tells_the_life_of_a_task(leader: Front, tasks: "pb_grpc.TaskServiceAsyncStub") -> None:
    """From pending to the proof, and then the stream ends."""
    register(leader.replicator, "worker-1")
    submit(leader.replicator, "t")
    watch = tasks.WatchTask(pb.WatchTaskRequest(task_id="t"), timeout=10)
    assert (await message(watch)).state == pb.TASK_STATE_PENDING
    task = assign(leader.replicator, "t", "worker-1")
    assert (await message(watch)).state == pb.TASK_STATE_ASSIGNED
    start(leader.replicator, task)
    assert (await message(watch)).state == pb.TASK_STATE_IN_PROGRESS
    complete(leader.replicator, task)
    final = await message(watch)
    assert (final.state, final.proof, final.worker_id) == (pb.TASK_STATE_COMPLETED, GOOD_PROOF, "worker-1")
    assert await watch.read() is grpc.aio.EOF
    assert leader.services.watchers.count == 0


async def test_a_watcher_that_leaves_is_forgotten(leader: Front, tasks: "pb_grpc.TaskServiceAsyncStub") -> None:
    """Whether it says goodbye or not."""
    submit(leader.replicator, "t")
    watch = tasks.WatchTask(pb.WatchTaskRequest(task_id="t"), timeout=10)
    await watch.read()
    assert leader.services.watchers.count == 1
    watch.cancel()
    await leader.until(lambda: leader.services.watchers.count == 0)


async def test_listing_pages_through_everything(leader: Front, tasks: "pb_grpc.TaskServiceAsyncStub") -> None:
    """Newest first, in pages, also while PostgreSQL is away; filters hold on every page."""
    for number in range(25):
        submit(leader.replicator, f"t{number:02}", "addition" if number % 5 else "range_proof")
    found: list[str] = []
    token = ""
    while True:
        request = pb.ListTasksRequest(page_size=7, page_token=token, circuit="addition")
        page = await tasks.ListTasks(request, timeout=10)
        found += [task.id for task in page.tasks]
        token = page.next_page_token
        if not token:
            break
    assert found == [f"t{number:02}" for number in reversed(range(25)) if number % 5]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await tasks.ListTasks(pb.ListTasksRequest(page_token="made-up"), timeout=10)
    assert metadata_of(refused.value)["zkp-field"] == "page_token"


async def test_cancelling(leader: Front, tasks: "pb_grpc.TaskServiceAsyncStub") -> None:
    """Twice is fine; after the result it is FAILED_PRECONDITION, and not one that sends the caller elsewhere."""
    register(leader.replicator, "worker-1")
    submit(leader.replicator, "a")
    submit(leader.replicator, "b")
    complete(leader.replicator, assign(leader.replicator, "b", "worker-1"))
    for _ in range(2):
        task = await tasks.CancelTask(pb.CancelTaskRequest(task_id="a"), timeout=5)
        assert task.state == pb.TASK_STATE_CANCELLED
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await tasks.CancelTask(pb.CancelTaskRequest(task_id="b"), timeout=5)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "zkp-leader" not in metadata_of(refused.value)
    assert not (refused.value.details() or "").startswith("Not leader")


async def test_private_inputs_do_not_come_back(leader: Front, tasks: "pb_grpc.TaskServiceAsyncStub") -> None:
    """Not in any answer that a client can get."""
    await tasks.SubmitTask(pb.SubmitTaskRequest(submission=submission("t", a=31_337, b=1)), timeout=5)
    answers = (
        await tasks.GetTask(pb.GetTaskRequest(task_id="t"), timeout=5),
        await tasks.ListTasks(pb.ListTasksRequest(), timeout=5),
        await tasks.WatchTask(pb.WatchTaskRequest(task_id="t"), timeout=5).read(),
    )
    assert all("31337" not in str(answer) for answer in answers)


async def test_the_clusters_status_is_told_by_any_node(leader: Front, admin: "pb_grpc.AdminServiceAsyncStub") -> None:
    """Members, roles and counts from everybody; workers and database from the leader alone."""
    register(leader.replicator, "worker-1", capacity=4)
    submit(leader.replicator, "t")
    assign(leader.replicator, "t", "worker-1")
    status = await admin.ClusterStatus(pb.ClusterStatusRequest(), timeout=5)
    assert (status.answered_by, status.leader, status.term) == ("coordinator-1", "coordinator-1", 1)
    assert {node.id: node.role for node in status.nodes} == {
        "coordinator-1": "leader",
        "coordinator-2": "follower",
    }
    assert status.nodes[1].grpc_address == LEADER_ADDRESS
    (worker,) = status.workers
    assert (worker.id, worker.state, worker.capacity, worker.busy) == ("worker-1", "online", 4, 1)
    assert worker.HasField("last_heartbeat")
    assert status.tasks["assigned"] == 1
    assert status.database == "ok"
    leader.replicator.depose("coordinator-2")
    status = await admin.ClusterStatus(pb.ClusterStatusRequest(), timeout=5)
    assert (status.leader, status.database) == ("coordinator-2", "unknown")
    assert list(status.workers) == []


async def test_leadership_is_handed_over_on_request(leader: Front, admin: "pb_grpc.AdminServiceAsyncStub") -> None:
    """To a member that is there; anything else is refused and changes nothing."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await admin.TransferLeadership(pb.TransferLeadershipRequest(to="nobody"), timeout=5)
    assert metadata_of(refused.value)["zkp-field"] == "to"
    same = await admin.TransferLeadership(pb.TransferLeadershipRequest(to="coordinator-1"), timeout=5)
    assert same.leader == "coordinator-1"
    leader.replicator.log.connected["coordinator-2"] = False
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await admin.TransferLeadership(pb.TransferLeadershipRequest(), timeout=5)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "Not leader" not in (refused.value.details() or "")
    assert leader.replicator.is_leader
    leader.replicator.log.connected["coordinator-2"] = True
    answer = await admin.TransferLeadership(pb.TransferLeadershipRequest(), timeout=5)
    assert answer.leader == "coordinator-2"
    with pytest.raises(grpc.aio.AioRpcError, match="Not leader"):
        await admin.TransferLeadership(pb.TransferLeadershipRequest(), timeout=5)


async def test_a_worker_is_released_from_quarantine(leader: Front, admin: "pb_grpc.AdminServiceAsyncStub") -> None:
    """It may then register by itself."""
    register(leader.replicator, "worker-1")
    leader.replicator.apply(Quarantine("worker-1", "sent a false proof"))
    await admin.ReleaseWorker(pb.ReleaseWorkerRequest(worker_id="worker-1"), timeout=5)
    status = await admin.ClusterStatus(pb.ClusterStatusRequest(), timeout=5)
    assert status.workers[0].state == "offline"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await admin.ReleaseWorker(pb.ReleaseWorkerRequest(worker_id="worker-9"), timeout=5)
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
