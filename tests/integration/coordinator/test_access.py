"""Who gets in over a real connection, and what the others are told."""

import asyncio
import contextlib
from collections.abc import Awaitable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from coordinator.rpc.serving import server as grpc_server
from pki.x509.identity import Role
from tests.integration.coordinator.front import Front, Identities, introduction, message, submission
from zkp.protocol.v1 import coordinator_pb2 as pb
from zkp.protocol.v1 import coordinator_pb2_grpc as pb_grpc

ROLES = [Role.COORDINATOR, Role.WORKER, Role.GATEWAY, Role.CLIENT, Role.ADMIN, Role.PROMETHEUS]
LET_IN = grpc.StatusCode.UNAVAILABLE
"""Of GetTask with an unknown id: memory does not hold it, and no PostgreSQL is there to ask."""


def health_of(channel: grpc.aio.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel)  # its types know no methods


async def code_of(call: Awaitable[object]) -> grpc.StatusCode:
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_gets_in_where_it_belongs(leader: Front, role: Role) -> None:
    """One method of each service, with a certificate of each role that can dial."""
    name = f"some-{role}"
    async with leader.channel(name, role) as channel:
        codes = (
            await code_of(pb_grpc.TaskServiceStub(channel).GetTask(pb.GetTaskRequest(task_id="none"), timeout=5)),
            await code_of(pb_grpc.WorkerServiceStub(channel).RegisterWorker(introduction(name), timeout=5)),
            await code_of(pb_grpc.AdminServiceStub(channel).ClusterStatus(pb.ClusterStatusRequest(), timeout=5)),
            await code_of(health_of(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)),
        )
    denied = grpc.StatusCode.PERMISSION_DENIED
    assert codes == (
        LET_IN if role in (Role.GATEWAY, Role.CLIENT, Role.ADMIN) else denied,
        grpc.StatusCode.OK if role is Role.WORKER else denied,
        grpc.StatusCode.OK if role is Role.ADMIN else denied,
        grpc.StatusCode.OK,
    )


async def test_a_refusal_is_clear_counted_and_without_effect(leader: Front, caplog: pytest.LogCaptureFixture) -> None:
    """Both sides learn who asked for what."""
    before = leader.replicator.log.index
    async with leader.channel("worker-1", Role.WORKER) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await pb_grpc.TaskServiceStub(channel).SubmitTask(
                pb.SubmitTaskRequest(submission=submission("t")), timeout=5
            )
    assert refused.value.details() == (
        "this is for role admin or client or gateway, and the certificate is worker/worker-1"
    )
    assert "call of /zkp.v1.TaskService/SubmitTask refused" in caplog.text
    assert leader.count("zkp_refused_total", port="grpc", reason="forbidden") == 1
    method = "/zkp.v1.TaskService/SubmitTask"
    # The answer is on its way before its call is counted.
    await leader.until(lambda: leader.count("zkp_rpc_requests_total", method=method, code="PERMISSION_DENIED") == 1)
    assert leader.replicator.log.index == before


async def test_streams_are_guarded_like_calls(leader: Front) -> None:
    """A worker may not watch tasks, and a client may not receive any."""
    async with leader.channel("worker-1", Role.WORKER) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await pb_grpc.TaskServiceStub(channel).WatchTask(pb.WatchTaskRequest(task_id="t"), timeout=5).read()
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    async with leader.channel("alice", Role.CLIENT) as channel:
        request = pb.ReceiveTasksRequest(worker_id="alice", incarnation="first")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await pb_grpc.WorkerServiceStub(channel).ReceiveTasks(request, timeout=5).read()
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_an_expired_certificate_is_refused_on_a_connection_that_is_open(leader: Front) -> None:
    """Checked per call: the handshake was long ago."""
    async with leader.channel("alice", Role.CLIENT) as channel:
        tasks = pb_grpc.TaskServiceStub(channel)
        assert await code_of(tasks.GetTask(pb.GetTaskRequest(task_id="none"), timeout=5)) is LET_IN
        leader.skew = timedelta(days=365)
        with pytest.raises(grpc.aio.AioRpcError, match="expired") as refused:
            await tasks.GetTask(pb.GetTaskRequest(task_id="none"), timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_stream_ends_when_the_certificate_that_opened_it_does(leader: Front) -> None:
    """A stream is one call that can last for weeks."""
    material = leader.identities.material("alice", Role.CLIENT)
    leader.skew = timedelta(seconds=material.seconds_to_expiry() - 0.5)
    async with leader.channel("alice", Role.CLIENT) as channel:
        tasks = pb_grpc.TaskServiceStub(channel)
        await tasks.SubmitTask(pb.SubmitTaskRequest(submission=submission("t")), timeout=5)
        watch = tasks.WatchTask(pb.WatchTaskRequest(task_id="t"), timeout=20)
        assert (await message(watch)).id == "t"
        with pytest.raises(grpc.aio.AioRpcError, match="expired") as refused:
            await watch.read()
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert leader.services.watchers.count == 0


async def test_no_certificate_another_authority_and_plaintext_do_not_get_in(leader: Front, tmp_path: Path) -> None:
    """Refused in the handshake, before a method is named."""
    mine = leader.identities.material("alice", Role.CLIENT).files.ca.read_bytes()
    stranger = Identities(tmp_path).material("alice", Role.CLIENT).files
    target = f"127.0.0.1:{leader.port}"
    for channel in (
        grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(mine)),
        grpc.aio.secure_channel(
            target, grpc.ssl_channel_credentials(mine, stranger.key.read_bytes(), stranger.certificate.read_bytes())
        ),
        grpc.aio.insecure_channel(target),
    ):
        async with channel:
            check = health_of(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
            assert await code_of(check) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize("noise", [b"GET / HTTP/1.1\r\n\r\n", b"\x7f\xff\xff\xff" * 4096, bytes(range(256)) * 64])
async def test_noise_on_the_port_hurts_nobody(leader: Front, noise: bytes) -> None:
    """Bytes of any kind end that connection and nothing else."""
    reader, writer = await asyncio.open_connection("127.0.0.1", leader.port)
    writer.write(noise)
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(reader.read(), 10)
    writer.close()
    async with leader.channel("alice", Role.CLIENT) as channel:
        check = health_of(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert await code_of(check) is grpc.StatusCode.OK


@pytest.mark.parametrize("streamed", [False, True])
async def test_messages_are_bounded(leader: Front, caplog: pytest.LogCaptureFixture, streamed: bool) -> None:
    """Nine MiB are refused before they are looked at, and the log says whose they were and from where."""
    large = pb.Submission(task_id="t", inputs=bytes(9 * 1024 * 1024))
    async with leader.channel("alice", Role.CLIENT) as channel:
        tasks = pb_grpc.TaskServiceStub(channel)
        if streamed:
            stream = tasks.StreamSubmissions(iter([large]), timeout=10)
            assert await stream.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        else:
            assert (
                await code_of(tasks.SubmitTask(pb.SubmitTaskRequest(submission=large), timeout=10))
                is grpc.StatusCode.RESOURCE_EXHAUSTED
            )
    assert leader.replicator.state.tasks == {}
    (record,) = [record for record in caplog.records if "message of 94" in record.getMessage()]
    assert "by spiffe://zkp.local/client/alice refused" in record.getMessage()
    assert record.__dict__["peer"].startswith("127.0.0.1:")


@pytest.mark.parametrize("streamed", [False, True])
async def test_malformed_messages_are_refused(
    leader: Front, caplog: pytest.LogCaptureFixture, streamed: bool
) -> None:
    """The caller is answered, and the log gets no traceback that a caller could fill it with."""
    async with leader.channel("alice", Role.CLIENT) as channel:
        if streamed:
            method: Any = channel.stream_stream("/zkp.v1.TaskService/StreamBatches")
            assert await method(iter([b"\xff\xff"]), timeout=10).code() is grpc.StatusCode.INTERNAL
        else:
            unary: Any = channel.unary_unary("/zkp.v1.TaskService/SubmitTask")
            assert await code_of(unary(b"\xff\xff", timeout=10)) is grpc.StatusCode.INTERNAL
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_silent_connection_does_not_stay(identities: Identities, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is closed once a handshake should have been done, and not two minutes later, as gRPC would do."""
    monkeypatch.setattr(grpc_server, "HANDSHAKE_TIMEOUT_S", 0.2)
    front = Front(identities)
    await front.start()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()
    finally:
        await front.stop()


async def test_unknown_methods_are_unimplemented(leader: Front) -> None:
    """And are not counted under names that strangers make up."""
    async with leader.channel("alice", Role.CLIENT) as channel:
        nonsense: Any = channel.unary_unary("/zkp.v1.TaskService/Nonsense")
        assert await code_of(nonsense(b"", timeout=5)) is grpc.StatusCode.UNIMPLEMENTED
    assert leader.count("zkp_rpc_requests_total", method="/zkp.v1.TaskService/Nonsense", code="UNIMPLEMENTED") is None


async def test_a_fault_of_the_program_is_logged_here_and_not_told(
    leader: Front, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The words of an exception may hold anything."""

    async def broken(_: str) -> None:
        raise RuntimeError("private 31337")

    monkeypatch.setattr(leader.services.tasks, "get", broken)
    async with leader.channel("alice", Role.CLIENT) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await pb_grpc.TaskServiceStub(channel).GetTask(pb.GetTaskRequest(task_id="t"), timeout=5)
    assert refused.value.code() is grpc.StatusCode.INTERNAL
    assert "31337" not in (refused.value.details() or "")
    assert "GetTask failed" in caplog.text


async def test_reflection_lists_the_api(leader: Front) -> None:
    """Tools find their way without the .proto file."""
    async with leader.channel("alice", Role.CLIENT) as channel:
        reflected: Any = reflection_pb2_grpc.ServerReflectionStub  # its types know no asyncio
        call = reflected(channel).ServerReflectionInfo(timeout=5)
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        answer = await call.read()
        await call.done_writing()
    names = {service.name for service in answer.list_services_response.service}
    assert {"zkp.v1.TaskService", "zkp.v1.WorkerService", "zkp.v1.AdminService"} <= names


async def test_the_health_service_follows_the_node(front: Front) -> None:
    """NOT_SERVING while no leader is known, SERVING as leader and as a follower that can redirect."""
    async with front.channel("some-prometheus", Role.PROMETHEUS) as channel:
        watch = health_of(channel).Watch(health_pb2.HealthCheckRequest(service="zkp.v1.TaskService"), timeout=20)
        assert (await message(watch)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await front.lead()
        assert (await message(watch)).status == health_pb2.HealthCheckResponse.SERVING
        front.replicator.depose(None)
        assert (await message(watch)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        front.replicator.depose("coordinator-2")
        assert (await message(watch)).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


async def test_health_and_ready_say_503_when_this_node_cannot_serve(front: Front) -> None:
    """/health and /ready answer 503 while the node cannot serve."""
    for path in ("/health", "/ready"):
        assert (await front.get(path, "worker-1", Role.WORKER))[0] == 503
    await front.lead()
    for path in ("/health", "/ready"):
        assert (await front.get(path, "worker-1", Role.WORKER))[0] == 200
    front.stopping = True
    assert (await front.get("/ready", "worker-1", Role.WORKER))[0] == 503


async def test_metrics_are_for_prometheus_and_admins(leader: Front) -> None:
    """Others are told so."""
    status, body = await leader.get("/metrics", "worker-1", Role.WORKER)
    assert status == 403
    assert "prometheus" in str(body)
