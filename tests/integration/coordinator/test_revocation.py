"""Revoking over the API: who may, whom it ends, who is told. Each test revokes a certificate of its own."""

from collections.abc import AsyncIterator, Awaitable

import aiohttp
import grpc
import pytest

from coordinator.state.model import TaskState, WorkerState
from pki.x509.identity import Role
from tests.integration.coordinator.front import LEADER_ADDRESS, Front, introduction, message, submission
from tests.unit.coordinator.fakes import submit
from zkp.protocol.v1 import coordinator_pb2 as pb
from zkp.protocol.v1 import coordinator_pb2_grpc as pb_grpc


def serial_of(front: Front, name: str, role: Role) -> str:
    """Of the member's certificate, as the API writes it."""
    return f"{front.identities.material(name, role).certificate.serial_number:x}"


@pytest.fixture
async def admin(leader: Front) -> AsyncIterator["pb_grpc.AdminServiceAsyncStub"]:
    """An admin whose certificate is good."""
    async with leader.channel("root", Role.ADMIN) as channel:
        yield pb_grpc.AdminServiceStub(channel)


async def revoke(admin: "pb_grpc.AdminServiceAsyncStub", *serials: str) -> int:
    request = pb.RevokeCertificatesRequest(certificates=[pb.Certificate(serial=serial) for serial in serials])
    return (await admin.RevokeCertificates(request, timeout=5)).revoked


async def refusal(call: Awaitable[object]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return refused.value


async def test_a_revoked_workers_stream_ends_and_its_task_goes_to_another(
    leader: Front, admin: "pb_grpc.AdminServiceAsyncStub"
) -> None:
    """UNAUTHENTICATED on the stream that is open and at every call after; the task is free at once."""
    async with leader.channel("worker-lost", Role.WORKER) as lost, leader.channel("worker-good", Role.WORKER) as good:
        worker, other = pb_grpc.WorkerServiceStub(lost), pb_grpc.WorkerServiceStub(good)
        await worker.RegisterWorker(introduction("worker-lost"), timeout=5)
        stream = worker.ReceiveTasks(pb.ReceiveTasksRequest(worker_id="worker-lost", incarnation="first"), timeout=20)
        await stream.initial_metadata()
        submit(leader.replicator, "t", max_retries=0)
        assert (await message(stream)).task_id == "t"
        await other.RegisterWorker(introduction("worker-good"), timeout=5)
        others = other.ReceiveTasks(pb.ReceiveTasksRequest(worker_id="worker-good", incarnation="first"), timeout=20)
        await others.initial_metadata()

        assert await revoke(admin, serial_of(leader, "worker-lost", Role.WORKER)) == 1

        ended = await refusal(stream.read())
        assert ended.code() is grpc.StatusCode.UNAUTHENTICATED
        assert "is revoked" in (ended.details() or "")
        given = await message(others)
        assert (given.task_id, given.attempt) == ("t", 2)
        again = await refusal(worker.RegisterWorker(introduction("worker-lost"), timeout=5))
        assert again.code() is grpc.StatusCode.UNAUTHENTICATED
        others.cancel()
    state = leader.replicator.state
    assert state.workers["worker-lost"].state is WorkerState.OFFLINE
    assert state.tasks["t"].state is TaskState.ASSIGNED
    assert leader.count("zkp_refused_total", port="grpc", reason="revoked") == 2


async def test_a_revoked_clients_watch_ends_and_others_go_on(
    leader: Front, admin: "pb_grpc.AdminServiceAsyncStub"
) -> None:
    """Only calls of the certificate are ended."""
    async with leader.channel("mallory", Role.CLIENT) as theirs, leader.channel("alice", Role.CLIENT) as ours:
        tasks = pb_grpc.TaskServiceStub(ours)
        await tasks.SubmitTask(pb.SubmitTaskRequest(submission=submission("t")), timeout=5)
        request = pb.WatchTaskRequest(task_id="t")
        watch = pb_grpc.TaskServiceStub(theirs).WatchTask(request, timeout=20)
        other = tasks.WatchTask(request, timeout=20)
        assert (await message(watch)).id == (await message(other)).id == "t"

        await revoke(admin, serial_of(leader, "mallory", Role.CLIENT))

        assert (await refusal(watch.read())).code() is grpc.StatusCode.UNAUTHENTICATED
        await tasks.CancelTask(pb.CancelTaskRequest(task_id="t"), timeout=5)
        assert (await message(other)).state == pb.TASK_STATE_CANCELLED


async def test_a_worker_that_renewed_keeps_its_tasks_when_the_old_certificate_is_revoked(
    leader: Front, admin: "pb_grpc.AdminServiceAsyncStub"
) -> None:
    """It need not register again: what counts is the certificate that it used last."""
    hello = introduction("worker-renewed")
    before = serial_of(leader, "worker-renewed", Role.WORKER)
    async with leader.channel("worker-renewed", Role.WORKER) as channel:
        await pb_grpc.WorkerServiceStub(channel).RegisterWorker(hello, timeout=5)
    leader.identities.reissue("worker-renewed", Role.WORKER)
    leader.identities.material("worker-renewed", Role.WORKER).reload()
    async with leader.channel("worker-renewed", Role.WORKER) as channel:
        stream = pb_grpc.WorkerServiceStub(channel).ReceiveTasks(
            pb.ReceiveTasksRequest(worker_id="worker-renewed", incarnation="first"), timeout=20
        )
        await stream.initial_metadata()

        assert await revoke(admin, before) == 1

        submit(leader.replicator, "t")
        assert (await message(stream)).task_id == "t"
        stream.cancel()
    assert leader.replicator.state.workers["worker-renewed"].state is WorkerState.ONLINE


async def test_a_revoked_certificate_is_refused_over_https_too(
    leader: Front, admin: "pb_grpc.AdminServiceAsyncStub"
) -> None:
    """In the handshake, since each request here has a connection of its own."""
    assert (await leader.get("/health", "eve", Role.CLIENT))[0] == 200
    await revoke(admin, serial_of(leader, "eve", Role.CLIENT))
    with pytest.raises(aiohttp.ClientError):
        await leader.get("/health", "eve", Role.CLIENT)


async def test_an_admin_does_not_shut_itself_out(leader: Front, admin: "pb_grpc.AdminServiceAsyncStub") -> None:
    """Nor does anything else in the same request happen."""
    refused = await refusal(
        admin.RevokeCertificates(
            pb.RevokeCertificatesRequest(
                certificates=[
                    pb.Certificate(serial="1"),
                    pb.Certificate(serial=serial_of(leader, "root", Role.ADMIN)),
                ]
            ),
            timeout=5,
        )
    )
    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert dict(refused.trailing_metadata() or ())["zkp-field"] == "certificates[1].serial"
    assert "1" not in leader.replicator.state.revoked


async def test_what_is_revoked_is_listed(leader: Front, admin: "pb_grpc.AdminServiceAsyncStub") -> None:
    """With what was said about it; a second request for the same changes nothing."""
    named = pb.Certificate(serial="c0ffee", subject="client/bob", reason="superseded")
    named.not_after.FromMilliseconds(leader.replicator.now_ms + 60_000)
    request = pb.RevokeCertificatesRequest(certificates=[named])
    assert (await admin.RevokeCertificates(request, timeout=5)).revoked == 1
    assert (await admin.RevokeCertificates(request, timeout=5)).revoked == 0
    page = await admin.ListRevocations(pb.ListRevocationsRequest(page_size=10), timeout=5)
    (one,) = page.revocations
    assert (one.serial, one.subject, one.reason) == ("c0ffee", "client/bob", "superseded")
    assert one.not_after == named.not_after
    assert one.HasField("revoked_at")


async def test_gateways_and_workers_are_told(leader: Front, admin: "pb_grpc.AdminServiceAsyncStub") -> None:
    """Subscribers receive a revocation at once, and are redirected when this node loses leadership."""
    await revoke(admin, "a1")
    async with leader.channel("gateway-1", Role.GATEWAY) as channel:
        stub = pb_grpc.RevocationServiceStub(channel)
        following = stub.WatchRevocations(pb.WatchRevocationsRequest(), timeout=20)
        assert [one.serial for one in (await message(following)).revocations] == ["a1"]
        await revoke(admin, "b2", "c3")
        assert [one.serial for one in (await message(following)).revocations] == ["b2", "c3"]
        leader.replicator.depose("coordinator-2")
        sent_on = await refusal(following.read())
        assert sent_on.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert dict(sent_on.trailing_metadata() or ())["zkp-leader"] == LEADER_ADDRESS
    async with leader.channel("alice", Role.CLIENT) as channel:
        stub = pb_grpc.RevocationServiceStub(channel)
        denied = await refusal(stub.WatchRevocations(pb.WatchRevocationsRequest(), timeout=5).read())
        assert denied.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_a_transfer_sent_again_in_a_later_term_moves_nothing(
    leader: Front, admin: "pb_grpc.AdminServiceAsyncStub"
) -> None:
    """Whoever was to give way has done so; in the term that is meant, it does."""
    leader.replicator.depose("coordinator-2")
    await leader.lead()
    answer = await admin.TransferLeadership(pb.TransferLeadershipRequest(term=1), timeout=5)
    assert (answer.leader, leader.replicator.is_leader) == ("coordinator-1", True)
    answer = await admin.TransferLeadership(pb.TransferLeadershipRequest(term=2), timeout=5)
    assert (answer.leader, leader.replicator.is_leader) == ("coordinator-2", False)
