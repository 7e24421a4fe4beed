"""`python -m coordinator` as an operator runs it: a cluster of one, with PostgreSQL there, away and back."""

import asyncio
import contextlib
import json
import signal
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import grpc
import psycopg
import pytest
from cryptography import x509
from psycopg.conninfo import make_conninfo

from pki.x509.identity import Role
from tests.integration.coordinator.one_node import HOST, OneNode, stop
from zkp.proofs import circuits
from zkp.proofs.groth16 import Prover
from zkp.proofs.keys import KeyStore
from zkp.protocol.v1 import coordinator_pb2 as pb
from zkp.protocol.v1 import coordinator_pb2_grpc as pb_grpc

STARTS_WITHIN = 30.0  # seconds; a loaded machine takes its time


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    """Development keys of the smallest circuit."""
    store = KeyStore(tmp_path_factory.mktemp("keys") / "store")
    store.build("addition")
    return store


@pytest.fixture
def away(tmp_path: Path, keys: KeyStore) -> OneNode:
    """A node whose PostgreSQL does not answer."""
    return OneNode(tmp_path, keys.directory, {"host": str(tmp_path / "no-postgres")})


@pytest.fixture
def recorded(tmp_path: Path, keys: KeyStore, empty_database: dict[str, str]) -> OneNode:
    """A node with an empty database."""
    given = empty_database
    settings = {"host": given["host"], "port": int(given["port"]), "name": given["dbname"], "user": given["user"]}
    return OneNode(tmp_path, keys.directory, settings)


def coordinator(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run the command to its end."""
    command = [sys.executable, "-m", "coordinator", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


async def get(node: OneNode, port: int, path: str, role: Role = Role.ADMIN) -> tuple[int, str]:
    context = node.identities.material(f"some-{role}", role).client_context()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"https://{HOST}:{port}{path}", ssl=context) as answer,
    ):
        return answer.status, await answer.text()


async def until_ready(node: OneNode) -> None:
    async with asyncio.timeout(STARTS_WITHIN):
        while True:
            try:
                if (await get(node, node.health, "/ready"))[0] == 200:
                    return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


def channel(node: OneNode, name: str, role: Role) -> grpc.aio.Channel:
    credentials = node.identities.material(name, role).grpc_channel_credentials()
    return grpc.aio.secure_channel(f"{HOST}:{node.grpc}", credentials)


async def submit(node: OneNode, task_id: str) -> pb.Task:
    prepared = circuits.prepare("addition", {"a": 20, "b": 22})
    submission = pb.Submission(
        task_id=task_id, circuit="addition", inputs=prepared.inputs, public_inputs=prepared.public_inputs
    )
    async with channel(node, "alice", Role.CLIENT) as line:
        answer = await pb_grpc.TaskServiceStub(line).SubmitTask(
            pb.SubmitTaskRequest(submission=submission), timeout=10
        )
    task: pb.Task = answer.task
    return task


async def prove_one(node: OneNode, keys: KeyStore) -> str:
    """Be worker-1 for one task; its id."""
    prover = Prover(keys, "addition")
    async with channel(node, "worker-1", Role.WORKER) as line:
        worker = pb_grpc.WorkerServiceStub(line)
        offered = [pb.CircuitKey(circuit="addition", verifying_key_sha256=keys.verifying_keys()["addition"])]
        hello = pb.RegisterWorkerRequest(worker_id="worker-1", incarnation="first", capacity=1, circuits=offered)
        await worker.RegisterWorker(hello, timeout=10)
        stream = worker.ReceiveTasks(
            pb.ReceiveTasksRequest(worker_id="worker-1", incarnation="first"), timeout=STARTS_WITHIN
        )
        task = await stream.read()
        assert isinstance(task, pb.Assignment)
        report = pb.CompletionReport(
            worker_id="worker-1",
            task_id=task.task_id,
            attempt=task.attempt,
            proof=prover.prove(task.inputs, tuple(task.public_inputs)),
        )
        await worker.ReportCompletion(report, timeout=10)
        stream.cancel()
    return task.task_id


async def state_of(node: OneNode, task_id: str) -> "pb.TaskState.ValueType":
    async with channel(node, "alice", Role.CLIENT) as line:
        task: pb.Task = await pb_grpc.TaskServiceStub(line).GetTask(pb.GetTaskRequest(task_id=task_id), timeout=10)
    return task.state


async def test_a_task_is_proved_recorded_and_survives_a_restart(
    recorded: OneNode, keys: KeyStore, empty_database: dict[str, str]
) -> None:
    """From submission to the row in PostgreSQL; after SIGTERM and a new start the state is the same."""
    with recorded.running() as process:
        await until_ready(recorded)
        await submit(recorded, "done")
        assert await prove_one(recorded, keys) == "done"
        await submit(recorded, "waiting")
        assert await state_of(recorded, "done") == pb.TASK_STATE_COMPLETED
        assert '"status": "ok"' in (await get(recorded, recorded.health, "/health"))[1]
        assert "zkp_raft_is_leader 1.0" in (await get(recorded, recorded.metrics, "/metrics"))[1]
        assert stop(process) == 0
    with recorded.running() as process:
        await until_ready(recorded)
        assert await state_of(recorded, "done") == pb.TASK_STATE_COMPLETED
        assert await state_of(recorded, "waiting") == pb.TASK_STATE_PENDING
        assert await rows(empty_database) == {"done": "completed", "waiting": "pending"}
        assert stop(process) == 0
    assert "entering leader state" in recorded.lines()
    assert '"a"' not in recorded.lines()


async def rows(database: Mapping[str, str]) -> dict[str, str]:
    """The record's tasks, once it has both."""
    async with asyncio.timeout(STARTS_WITHIN):
        while True:
            async with await psycopg.AsyncConnection.connect(
                make_conninfo(**database), autocommit=True
            ) as connection:
                cursor = await connection.execute("SELECT id, state FROM tasks ORDER BY id")
                found = {row[0]: row[1] for row in await cursor.fetchall()}
            if len(found) == 2:
                return found
            await asyncio.sleep(0.05)


async def test_without_postgres_tasks_are_accepted_and_proved_and_health_says_degraded(
    away: OneNode, keys: KeyStore
) -> None:
    """The record is not on the path of a task."""
    with away.running() as process:
        await until_ready(away)
        await submit(away, "t")
        assert await prove_one(away, keys) == "t"
        assert await state_of(away, "t") == pb.TASK_STATE_COMPLETED
        status, body = await get(away, away.health, "/health")
        health = json.loads(body)
        assert (status, health["status"], health["database"]["status"]) == (200, "degraded", "degraded")
        assert health["database"]["backlog"] > 0
        assert stop(process) == 0


async def test_every_port_speaks_tls_1_3_or_nothing(away: OneNode) -> None:
    """Every port requires TLS 1.3."""
    files = away.identities.material("some-admin", Role.ADMIN).files
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.load_cert_chain(files.certificate, files.key)
    old.set_alpn_protocols(["h2"])
    with away.running() as process:
        await until_ready(away)
        for port in (away.raft, away.grpc, away.health, away.metrics):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.open_connection(HOST, port, ssl=old)
        assert stop(process) == 0


async def test_certificates_are_reloaded_on_sighup_everywhere(away: OneNode) -> None:
    """A renewal needs no restart: every port serves the new one to new connections, and the node goes on leading."""
    with away.running() as process:
        await until_ready(away)
        serial = away.identities.reissue("coordinator-1", Role.COORDINATOR)
        ports = (away.raft, away.grpc, away.health, away.metrics)
        assert serial not in {await served_serial(away, port) for port in ports}
        process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(STARTS_WITHIN):
            while {await served_serial(away, port) for port in ports} != {serial}:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.05)
        await submit(away, "t")
        assert stop(process) == 0


async def served_serial(node: OneNode, port: int) -> int:
    context = node.identities.material("some-admin", Role.ADMIN).client_context()
    _, writer = await asyncio.open_connection(HOST, port, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(der).serial_number


def test_a_port_that_is_taken_ends_the_start_with_one_line(away: OneNode) -> None:
    """The second process says which, and exits with 1."""
    with away.running() as first:
        asyncio.run(until_ready(away))
        for changed in away.with_one_port_taken():
            second = coordinator("--config", str(changed))
            assert second.returncode == 1
            assert "Traceback" not in second.stderr
            assert "cannot listen on" in second.stderr
        assert stop(first) == 0


def test_check_says_what_the_node_would_be(away: OneNode) -> None:
    """And touches nothing: the data directory stays empty."""
    done = coordinator("check", "--config", str(away.config))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ok: coordinator-1")
    assert "addition" in done.stdout
    assert list((away.directory / "data").iterdir()) == []


async def test_refused_grpc_handshakes_are_json_log_lines(away: OneNode) -> None:
    """Each names the reason, and every line of the log is JSON."""
    with away.running() as process:
        await until_ready(away)
        bare = ssl.create_default_context(cafile=str(away.identities.material("some-admin", Role.ADMIN).files.ca))
        bare.set_alpn_protocols(["h2"])
        for data in (b"GET / HTTP/1.1\r\n\r\n", None):
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(HOST, away.grpc, ssl=bare if data is None else None)
                writer.write(data or b"PRI")
                await reader.read()
                writer.close()
        async with asyncio.timeout(STARTS_WITHIN):
            while away.lines().count("refused a gRPC connection") < 2:  # noqa: ASYNC110 - a log tells no one
                await asyncio.sleep(0.05)
        assert stop(process) == 0
    lines = [json.loads(line) for line in away.lines().splitlines()]
    refused = [line for line in lines if line["message"].startswith("refused a gRPC connection")]
    assert {line["level"] for line in refused} == {"warning"}
    assert any("it showed no client certificate" in line["message"] for line in refused)
    assert any("it does not speak TLS" in line["message"] for line in refused)
