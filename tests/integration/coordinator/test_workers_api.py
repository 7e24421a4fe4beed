"""WorkerService over a real connection."""

from collections.abc import AsyncIterator

import grpc
import pytest

from coordinator.state.commands import LoseLease, MarkOffline
from coordinator.state.model import TaskState, WorkerState
from pki.x509.identity import Role
from tests.integration.coordinator.front import LEADER_ADDRESS, Front, introduction, message
from tests.unit.coordinator.fakes import FALSE_PROOF, GOOD_PROOF, submit
from zkp.protocol.v1 import coordinator_pb2 as pb
from zkp.protocol.v1 import coordinator_pb2_grpc as pb_grpc

HERE = pb.ReceiveTasksRequest(worker_id="worker-1", incarnation="first")


@pytest.fixture
async def worker(leader: Front) -> AsyncIterator["pb_grpc.WorkerServiceAsyncStub"]:
    """worker-1, registered."""
    async with leader.channel("worker-1", Role.WORKER) as channel:
        stub: pb_grpc.WorkerServiceAsyncStub = pb_grpc.WorkerServiceStub(channel)
        answer = await stub.RegisterWorker(introduction("worker-1"), timeout=5)
        assert (answer.heartbeat_interval_ms, answer.lease_ms) == (3_000, 10_000)
        yield stub


def report(proof: bytes, attempt: int = 1, worker_id: str = "worker-1") -> pb.CompletionReport:
    return pb.CompletionReport(worker_id=worker_id, task_id="t", attempt=attempt, proof=proof)


async def received(leader: Front, worker: "pb_grpc.WorkerServiceAsyncStub") -> pb.Assignment:
    """Task t, as it was assigned to worker-1."""
    stream = worker.ReceiveTasks(HERE, timeout=20)
    await stream.initial_metadata()
    submit(leader.replicator, "t")
    assignment = await stream.read()
    assert isinstance(assignment, pb.Assignment)
    stream.cancel()
    await leader.until(lambda: not leader.services.streams.connected)  # or the next attempt would go there at once
    return assignment


async def test_a_task_goes_out_and_its_proof_comes_in(
    leader: Front, worker: "pb_grpc.WorkerServiceAsyncStub"
) -> None:
    """The whole exchange: assignment, start, result; reports sent twice succeed twice."""
    assignment = await received(leader, worker)
    assert (assignment.task_id, assignment.attempt, assignment.inputs) == ("t", 1, b"{}")
    assert assignment.time_limit_ms == 100_000
    for _ in range(2):
        await worker.StartTask(pb.StartTaskRequest(worker_id="worker-1", task_id="t", attempt=1), timeout=5)
    assert leader.replicator.state.tasks["t"].state is TaskState.IN_PROGRESS
    for _ in range(2):
        await worker.ReportCompletion(report(GOOD_PROOF), timeout=5)
    assert leader.replicator.state.tasks["t"].state is TaskState.COMPLETED
    assert len(leader.verifier.asked) == 1


async def test_a_worker_may_not_speak_for_another(leader: Front, worker: "pb_grpc.WorkerServiceAsyncStub") -> None:
    """worker-2's certificate, worker-1's name: every method refuses, and nothing changes."""
    await received(leader, worker)
    before = leader.replicator.log.index
    async with leader.channel("worker-2", Role.WORKER) as channel:
        other = pb_grpc.WorkerServiceStub(channel)
        for call in (
            lambda: other.RegisterWorker(introduction("worker-1"), timeout=5),
            lambda: other.SendHeartbeat(pb.HeartbeatRequest(worker_id="worker-1", incarnation="first"), timeout=5),
            lambda: other.ReceiveTasks(HERE, timeout=5).read(),
            lambda: other.StartTask(pb.StartTaskRequest(worker_id="worker-1", task_id="t", attempt=1), timeout=5),
            lambda: other.ReportCompletion(report(GOOD_PROOF), timeout=5),
            lambda: other.ReportFailure(
                pb.FailureReport(worker_id="worker-1", task_id="t", attempt=1, error=pb.TaskError(code="timeout")),
                timeout=5,
            ),
        ):
            with pytest.raises(grpc.aio.AioRpcError, match="may not speak for 'worker-1'") as refused:
                await call()
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert leader.replicator.log.index == before


async def test_a_false_proof_is_refused_and_its_worker_quarantined(
    leader: Front, worker: "pb_grpc.WorkerServiceAsyncStub"
) -> None:
    """The task waits for another worker; the liar's stream ends and it gets no further."""
    await received(leader, worker)
    stream = worker.ReceiveTasks(HERE, timeout=20)
    await stream.read()
    with pytest.raises(grpc.aio.AioRpcError, match="does not verify") as refused:
        await worker.ReportCompletion(report(FALSE_PROOF), timeout=5)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert leader.replicator.state.workers["worker-1"].state is WorkerState.QUARANTINED
    assert leader.replicator.state.tasks["t"].state is TaskState.PENDING
    assert leader.count("zkp_workers_quarantined_total") == 1
    for call in (
        stream.read,
        lambda: worker.ReportCompletion(report(GOOD_PROOF), timeout=5),
        lambda: worker.RegisterWorker(introduction("worker-1"), timeout=5),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match="quarantined") as refused:
            await call()
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_stale_attempt_is_aborted_and_changes_nothing(
    leader: Front, worker: "pb_grpc.WorkerServiceAsyncStub"
) -> None:
    """Its lease was lost: the proof, however good, comes too late."""
    await received(leader, worker)
    leader.replicator.apply(LoseLease("t", 1, "timeout", ""))
    before = leader.replicator.state.tasks["t"]
    failure = pb.FailureReport(worker_id="worker-1", task_id="t", attempt=1, error=pb.TaskError(code="timeout"))
    for call in (
        lambda: worker.ReportCompletion(report(GOOD_PROOF), timeout=5),
        lambda: worker.ReportFailure(failure, timeout=5),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call()
        assert refused.value.code() is grpc.StatusCode.ABORTED
    assert leader.verifier.asked == []
    assert leader.replicator.state.tasks["t"].retries == before.retries


async def test_a_failure_is_recorded_with_its_words(leader: Front, worker: "pb_grpc.WorkerServiceAsyncStub") -> None:
    """The task is tried again, and says why."""
    await received(leader, worker)
    failure = pb.FailureReport(
        worker_id="worker-1",
        task_id="t",
        attempt=1,
        error=pb.TaskError(code="out_of_memory", message="killed\nby the kernel"),
        retryable=True,
    )
    await worker.ReportFailure(failure, timeout=5)
    task = leader.replicator.state.tasks["t"]
    assert (task.error_code, task.error_message, task.retries) == ("out_of_memory", "killed by the kernel", 1)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await worker.ReportFailure(failure, timeout=5)
    assert refused.value.code() is grpc.StatusCode.ABORTED


async def test_the_stream_sends_a_worker_to_the_new_leader(
    leader: Front, worker: "pb_grpc.WorkerServiceAsyncStub"
) -> None:
    """Deposition ends worker streams, and workers register again with the new leader."""
    stream = worker.ReceiveTasks(HERE, timeout=20)
    await stream.initial_metadata()
    leader.replicator.depose(None)  # the others have not elected yet
    leader.replicator.log.leader_id = "coordinator-2"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stream.read()
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert dict(refused.value.trailing_metadata() or ())["zkp-leader"] == LEADER_ADDRESS


async def test_a_newer_stream_ends_the_older(leader: Front, worker: "pb_grpc.WorkerServiceAsyncStub") -> None:
    """And what was assigned and not started comes again on the new one."""
    first = worker.ReceiveTasks(HERE, timeout=20)
    await first.initial_metadata()
    submit(leader.replicator, "t")
    assert (await message(first)).task_id == "t"
    second = worker.ReceiveTasks(HERE, timeout=20)
    await second.initial_metadata()
    with pytest.raises(grpc.aio.AioRpcError, match="newer stream") as refused:
        await first.read()
    assert refused.value.code() is grpc.StatusCode.ABORTED
    assert (await message(second)).task_id == "t"
    assert leader.services.connected == 1
    second.cancel()
    await leader.until(lambda: leader.services.connected == 0)


async def test_a_worker_that_was_given_up_registers_again(
    leader: Front, worker: "pb_grpc.WorkerServiceAsyncStub"
) -> None:
    """Heartbeats and streams say NOT_FOUND until it does."""
    leader.replicator.apply(MarkOffline("worker-1", "first"))
    beat = pb.HeartbeatRequest(worker_id="worker-1", incarnation="first", held=[pb.Attempt(task_id="t", attempt=1)])
    for call in (lambda: worker.SendHeartbeat(beat, timeout=5), lambda: worker.ReceiveTasks(HERE, timeout=5).read()):
        with pytest.raises(grpc.aio.AioRpcError, match="register again") as refused:
            await call()
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    await worker.RegisterWorker(introduction("worker-1"), timeout=5)
    answer = await worker.SendHeartbeat(beat, timeout=5)
    assert [(attempt.task_id, attempt.attempt) for attempt in answer.dropped] == [("t", 1)]
