"""Members with valid certificates that send false reports: they are rejected without effect."""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from pki.files import TlsFiles
from pki.tls.material import TlsMaterial
from pki.x509.identity import Role
from tests.integration.cluster.attacker import NOISE, CertificateFactory
from tests.integration.cluster.network import Network, eventually, frozen
from tests.integration.cluster.work import (
    check_proofs,
    check_recorded_once,
    finished,
    submission,
    submit,
    under_way,
)
from zkp.client.model import TaskState
from zkp.proofs.groth16 import Prover
from zkp.proofs.keys import KeyStore
from zkp.protocol.v1 import coordinator_pb2 as pb
from zkp.protocol.v1 import coordinator_pb2_grpc as pb_grpc

if TYPE_CHECKING:  # generic for the type checker only
    from grpc.aio import UnaryStreamCall

WORKERS = ("worker-1", "worker-2")
_CALL_S = 30.0


@pytest.fixture
def network(calm_network: Network) -> Iterator[Network]:
    """The network under attack; see `Network.unmoved`."""
    with calm_network.unmoved():
        yield calm_network


@pytest.fixture(scope="module")
def certificates(calm_network: Network, tmp_path_factory: pytest.TempPathFactory) -> CertificateFactory:
    """Certificates for byzantine workers."""
    return CertificateFactory(calm_network.layout, tmp_path_factory.mktemp("certificates"))


@dataclass
class Caller:
    """Stubs for the leader's services."""

    network: Network
    leader: str
    tasks: "pb_grpc.TaskServiceAsyncStub"
    workers: "pb_grpc.WorkerServiceAsyncStub"
    admin: "pb_grpc.AdminServiceAsyncStub"
    logged_before: int

    def logged(self, *words: str) -> None:
        """Wait until the leader has logged a line with all of these words since this caller was created."""

        def found() -> bool:
            lines = self.network.log(self.leader, self.logged_before).splitlines()
            return any(all(word in line for word in words) for line in lines)

        eventually(f"{' … '.join(words)} in the log of {self.leader}", found, 20.0)


@contextlib.asynccontextmanager
async def calling(network: Network, files: TlsFiles) -> AsyncIterator[Caller]:
    """Connect to the leader with the certificate in these files."""
    leader = network.leader().id
    credentials = TlsMaterial.load(files).grpc_channel_credentials()
    async with grpc.aio.secure_channel(network.address(leader, "grpc"), credentials) as channel:
        yield Caller(
            network,
            leader,
            pb_grpc.TaskServiceStub(channel),
            pb_grpc.WorkerServiceStub(channel),
            pb_grpc.AdminServiceStub(channel),
            network.log_size(leader),
        )


@dataclass
class ByzantineWorker:
    """A registered worker whose reports the test controls."""

    name: str
    call: Caller
    stream: "UnaryStreamCall[Any, pb.Assignment]"

    async def assignment(self) -> pb.Assignment:
        """Return its next assignment."""
        found = await self.stream.read()
        assert isinstance(found, pb.Assignment)
        return found

    async def complete(self, task_id: str, attempt: int, proof: bytes) -> grpc.aio.AioRpcError | None:
        """Report a proof; return the error, if any."""
        report = pb.CompletionReport(worker_id=self.name, task_id=task_id, attempt=attempt, proof=proof)
        return await refusal(lambda: self.call.workers.ReportCompletion(report, timeout=_CALL_S))

    async def fail(self, task_id: str, attempt: int) -> grpc.aio.AioRpcError | None:
        """Report a failure; return the error, if any."""
        error = pb.TaskError(code="prover_failed", message="no luck")
        report = pb.FailureReport(worker_id=self.name, task_id=task_id, attempt=attempt, error=error, retryable=True)
        return await refusal(lambda: self.call.workers.ReportFailure(report, timeout=_CALL_S))


@contextlib.asynccontextmanager
async def byzantine_worker(
    network: Network, certificates: CertificateFactory, keys: Path, name: str
) -> AsyncIterator[ByzantineWorker]:
    """Register a worker with more capacity than there are tasks."""
    async with calling(network, certificates.newcomer_files(name, Role.WORKER)) as call:
        pins = KeyStore(keys).verifying_keys()
        await call.workers.RegisterWorker(
            pb.RegisterWorkerRequest(
                worker_id=name,
                incarnation="first",
                capacity=64,
                circuits=[pb.CircuitKey(circuit=circuit, verifying_key_sha256=pin) for circuit, pin in pins.items()],
            ),
            timeout=_CALL_S,
        )
        stream = call.workers.ReceiveTasks(pb.ReceiveTasksRequest(worker_id=name, incarnation="first"))
        await stream.initial_metadata()
        yield ByzantineWorker(name, call, stream)


async def refusal(call: Callable[[], Any]) -> grpc.aio.AioRpcError | None:
    """Return the error of a call; None if it succeeded."""
    try:
        await call()
    except grpc.aio.AioRpcError as error:
        return error
    return None


def check_refused(error: grpc.aio.AioRpcError | None, code: grpc.StatusCode, words: str) -> None:
    """Assert that the call failed with this code and these words."""
    assert error is not None
    assert (error.code(), words in (error.details() or "")) == (code, True), error.details()


async def test_a_worker_speaks_for_itself_alone(network: Network, keys: Path) -> None:
    """Every call with worker-1's certificate and worker-2's id is rejected, and worker-2's attempt continues."""
    async with network.client() as client:
        with frozen(*network.provers(*WORKERS)):
            ids = await submit(client, submission("merkle_proof"), submission("merkle_proof"))
            workers = {(await under_way(client, task_id)).worker_id: task_id for task_id in ids}
            other_identity = TlsFiles.in_directory(network.layout.identity("worker-1"))
            async with calling(network, other_identity) as call:
                about: dict[str, Any] = {"worker_id": "worker-2", "task_id": workers["worker-2"], "attempt": 1}
                service = call.workers
                attempts: list[Callable[[], Any]] = [
                    lambda: service.RegisterWorker(pb.RegisterWorkerRequest(worker_id="worker-2", incarnation="x")),
                    lambda: service.SendHeartbeat(pb.HeartbeatRequest(worker_id="worker-2", incarnation="x")),
                    lambda: service.ReceiveTasks(
                        pb.ReceiveTasksRequest(worker_id="worker-2", incarnation="x")
                    ).read(),
                    lambda: service.StartTask(pb.StartTaskRequest(**about)),
                    lambda: service.ReportCompletion(pb.CompletionReport(**about, proof=bytes(256))),
                    lambda: service.ReportFailure(pb.FailureReport(**about, retryable=False)),
                ]
                refusals = [await refusal(attempt) for attempt in attempts]
                call.logged("may not speak for 'worker-2'", '"worker_id": "worker-1"')
        tasks = await finished(client, ids)

    words = "this certificate is worker-1's, it may not speak for 'worker-2'"
    for error in refusals:
        check_refused(error, grpc.StatusCode.PERMISSION_DENIED, words)
    assert {(task.worker_id, task.attempt) for task in tasks.values()} == {(worker, 1) for worker in WORKERS}
    check_proofs(keys, tasks)
    check_recorded_once(network, tasks)


@pytest.mark.parametrize("lie", ["noise", "of another statement", "too short"])
async def test_a_false_proof_costs_its_worker_the_trust(
    network: Network, certificates: CertificateFactory, keys: Path, lie: str
) -> None:
    """An invalid proof is rejected and quarantines its worker; other workers complete its tasks."""
    other = submission("addition", a=1, b=2)
    proof = {
        "noise": NOISE[:256],
        "of another statement": Prover(KeyStore(keys), "addition").prove(other.inputs, other.public_inputs),
        "too short": NOISE[:255],
    }[lie]
    name = f"liar-{lie.replace(' ', '-')}"
    async with (
        network.client() as client,
        network.admin() as admin,
        byzantine_worker(network, certificates, keys, name) as worker,
    ):
        with frozen(*network.provers(*WORKERS)):  # they hold two tasks; the byzantine worker gets the rest
            ids = await submit(client, *(submission() for _ in range(4)))
            given = await worker.assignment()
            refused = await worker.complete(given.task_id, given.attempt, proof)
            again = await worker.complete(given.task_id, given.attempt, proof)
            states = {known.id: known.state for known in (await admin.cluster_status()).workers}
        tasks = await finished(client, ids)
        worker.call.logged("false proof", f'"worker_id": "{name}"', given.task_id)

    check_refused(refused, grpc.StatusCode.INVALID_ARGUMENT, f"does not verify for task {given.task_id}")
    check_refused(again, grpc.StatusCode.PERMISSION_DENIED, "quarantined: sent a false proof")
    assert given.task_id in ids
    assert (states[name], states["worker-1"], states["worker-2"]) == ("quarantined", "online", "online")
    assert {task.worker_id for task in tasks.values()} <= set(WORKERS)
    check_proofs(keys, tasks)
    check_recorded_once(network, tasks)


async def test_a_stale_attempt_changes_nothing(
    network: Network, certificates: CertificateFactory, keys: Path
) -> None:
    """A late report, success or failure, is rejected while the next attempt runs and after the task has ended."""
    async with network.client() as client, byzantine_worker(network, certificates, keys, "worker-late") as worker:
        with frozen(*network.provers(*WORKERS)):
            ids = await submit(client, *(submission() for _ in range(4)))
            given = await worker.assignment()
            proof = Prover(KeyStore(keys), given.circuit).prove(given.inputs, list(given.public_inputs))
            assert await worker.fail(given.task_id, given.attempt) is None
            during = await worker.complete(given.task_id, given.attempt, proof)
            for task_id in ids:  # release its other assignments too
                task = await client.get(task_id)
                if task.worker_id == worker.name:
                    await worker.fail(task_id, task.attempt)
            worker.stream.cancel()
        tasks = await finished(client, ids)
        after = [
            await worker.complete(given.task_id, given.attempt, proof),
            await worker.fail(given.task_id, given.attempt),
        ]
        worker.call.logged("report refused", f"attempt {given.attempt} of task {given.task_id} is not worker-late's")
        unchanged = await client.get(given.task_id)

    for error in (during, *after):
        check_refused(error, grpc.StatusCode.ABORTED, f"attempt {given.attempt} of task {given.task_id} is not")
    assert (unchanged.state, unchanged.attempt > given.attempt) == (TaskState.COMPLETED, True)
    assert unchanged == tasks[given.task_id]
    check_proofs(keys, tasks)
    check_recorded_once(network, tasks)


async def test_each_role_has_its_own_calls(network: Network) -> None:
    """Each role may call its own services only."""
    calls: dict[str, Callable[[Caller], Any]] = {
        "TaskService/SubmitTask": lambda call: call.tasks.SubmitTask(
            pb.SubmitTaskRequest(submission=submission().message())
        ),
        "WorkerService/RegisterWorker": lambda call: call.workers.RegisterWorker(pb.RegisterWorkerRequest()),
        "AdminService/ClusterStatus": lambda call: call.admin.ClusterStatus(pb.ClusterStatusRequest()),
        "AdminService/TransferLeadership": lambda call: call.admin.TransferLeadership(pb.TransferLeadershipRequest()),
    }
    allowed: dict[str, tuple[str, ...]] = {
        "worker-1": ("WorkerService",),
        "client": ("TaskService",),
        "gateway": ("TaskService",),
        "admin": ("TaskService", "AdminService"),
    }
    for name, services in allowed.items():
        forbidden = [method for method in calls if not method.startswith(services)]
        async with calling(network, TlsFiles.in_directory(network.layout.identity(name))) as call:
            for method in forbidden:
                error = await refusal(partial(calls[method], call))
                check_refused(error, grpc.StatusCode.PERMISSION_DENIED, f"and the certificate is {role_of(name)}")
                call.logged(f"call of /zkp.v1.{method} refused", role_of(name))


def role_of(name: str) -> str:
    """ROLE/NAME of a member."""
    return f"{name.partition('-')[0]}/{name}"
