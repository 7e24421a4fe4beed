"""A coordinator's front without a cluster behind it: real gRPC and HTTPS over mutual TLS, on a local replicator."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import grpc

from coordinator.errors import Unavailable
from coordinator.leader.leases import LeaseTiming
from coordinator.monitoring.health import Health, RecordStatus
from coordinator.monitoring.registry import Metrics
from coordinator.replication.replicator import wall_clock_ms
from coordinator.rpc.admin_service import AdminService
from coordinator.rpc.authorization import Authorization
from coordinator.rpc.gate import CallGuard
from coordinator.rpc.open_calls import OpenCalls
from coordinator.rpc.revocation_service import RevocationService
from coordinator.rpc.server import RpcServer
from coordinator.rpc.task_service import TaskService
from coordinator.rpc.worker_service import WorkerService, WorkerTiming
from coordinator.services.circuit_keys import CircuitKeys
from coordinator.services.cluster import Cluster, NodeStatus
from coordinator.services.revocations import Revocations
from coordinator.services.task_reader import TaskReader
from coordinator.services.tasks import TaskLimits
from coordinator.services.verification import Verification
from coordinator.store import Database, ProjectionReader
from coordinator.wiring import Dependencies, Services
from pki.ca.authority import Authority
from pki.tls.material import TlsMaterial
from pki.x509.identity import Role
from tests.unit.coordinator.fakes import KEY, KnowingVerifier, LocalReplicator
from zkp.daemon.bounded_log import BoundedLog
from zkp.daemon.https import HttpsListener
from zkp.daemon.monitoring import monitoring_application
from zkp.daemon.settings import Address
from zkp.proofs import circuits
from zkp.protocol.v1 import coordinator_pb2 as pb

LEADER_ADDRESS = "10.0.0.2:9090"
HELD = LeaseTiming(lease_s=10, start_s=30, limit_s=100)


class Identities:
    """Certificates of one network, written where gRPC can read them."""

    def __init__(self, directory: Path, trust_domain: str = "zkp.local") -> None:
        self._directory = directory
        self.authority = Authority.create(trust_domain, now=datetime.now(UTC))
        self._made: dict[str, TlsMaterial] = {}

    def material(self, name: str, role: Role) -> TlsMaterial:
        if name not in self._made:
            issued = self.authority.issue(name, role, ["127.0.0.1"], now=datetime.now(UTC))
            self._made[name] = TlsMaterial.load(issued.write(self._directory))
        return self._made[name]

    def reissue(self, name: str, role: Role) -> int:
        """A new certificate in the place of the old one; its serial number."""
        issued = self.authority.issue(name, role, ["127.0.0.1"], now=datetime.now(UTC))
        issued.write(self._directory, replace=True)
        return issued.certificate.serial_number


class Front:
    """coordinator-1, with its doors open. `skew`: how far the server's clock for certificates is ahead."""

    def __init__(self, identities: Identities) -> None:
        self.identities = identities
        self.skew = timedelta()
        self.stopping = False
        self.replicator = LocalReplicator()
        self.metrics = Metrics()
        self.verifier = KnowingVerifier()
        self.record_status = RecordStatus("ok", 0, "")
        self.material = identities.material("coordinator-1", Role.COORDINATOR)
        self._verification = Verification(self.verifier)
        self._open_calls = OpenCalls()
        self._authorization = Authorization(
            self.material,
            now=lambda: datetime.now(UTC) + self.skew,
            log=BoundedLog(logging.getLogger("zkp.coordinator"), time.monotonic),
            count=lambda reason: self.metrics.refused("grpc", reason),
        )
        self.revocations = Revocations(
            self.replicator,
            refuse=self.material.revoke,
            close=lambda: self._open_calls.end(self.material.revoked_serials()),
            find_worker=self._worker_with_certificate,
            find_caller=self._caller_with_certificate,
            clock_ms=wall_clock_ms,
        )
        # No server is there: everything comes from memory.
        record = ProjectionReader(Database({"host": "/nonexistent", "dbname": "zkp"}, application="test"), 2)
        dependencies = Dependencies(
            replicator=self.replicator,
            record=TaskReader(record, lambda: self.replicator.state),
            projection_task=_nothing,
            retention_task=_nothing,
            keys=CircuitKeys(dict.fromkeys(circuits.NAMES, KEY), self.replicator),
            verification=self._verification,
            metrics=self.metrics,
            clock=time.monotonic,
        )
        self.services = Services(dependencies, TaskLimits(1_000, 10_000, 3), HELD)
        members = [
            NodeStatus("coordinator-1", "10.0.0.1:7000", "10.0.0.1:9090"),
            NodeStatus("coordinator-2", "10.0.0.2:7000", LEADER_ADDRESS),
        ]
        self.cluster = Cluster(members, self.replicator)
        self.health = Health(
            self.replicator,
            self.cluster,
            self.services,
            lambda: self.record_status,
            version="test",
            stopping=lambda: self.stopping,
        )
        self.metrics.watch(self.replicator, self.health)
        self.rpc = self._rpc()
        application = monitoring_application(
            self.material, health=self.health.health, ready=self.health.ready, registry=self.metrics.registry
        )
        self.https = HttpsListener(application, "127.0.0.1", 0, self.material)
        self.port = 0

    def _worker_with_certificate(self, serial: str) -> str:
        return self.services.workers.worker_using_certificate(serial)

    def _caller_with_certificate(self, serial: str) -> str:
        identity = self._authorization.caller_with(int(serial, 16))
        return f"{identity.role}/{identity.name}" if identity else ""

    def _rpc(self) -> RpcServer:
        admin = AdminService(
            self.replicator,
            self.cluster,
            self.services.leases,
            self.health,
            self.revocations,
            clock=time.monotonic,
            now_ms=wall_clock_ms,
            version="test",
        )
        return RpcServer(
            CallGuard(self._authorization, self.cluster.leader_address, self.metrics.called, self._open_calls),
            tasks=TaskService(self.services.tasks),
            workers=WorkerService(self.services.workers, self.services.reports, WorkerTiming(3_000, 10_000, 100_000)),
            admin=admin,
            revocations=RevocationService(self.revocations),
            can_serve=self.health.can_serve,
        )

    async def start(self) -> None:
        self.port = await self.rpc.start(Address("127.0.0.1", 0), self.material)
        await self.https.start()

    async def stop(self) -> None:
        await self.services.stop(Unavailable("end of the test"))
        self.revocations.end_all(Unavailable("end of the test"))
        await self.rpc.stop(0.2)
        await self.https.stop()
        self._verification.close()

    async def lead(self) -> None:
        self.replicator.elect()
        await self.services.leadership.ready.wait()

    @asynccontextmanager
    async def channel(self, name: str, role: Role) -> AsyncIterator[grpc.aio.Channel]:
        """A connection with this certificate."""
        credentials = self.identities.material(name, role).grpc_channel_credentials()
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials) as channel:
            yield channel

    async def get(self, path: str, name: str, role: Role) -> tuple[int, object]:
        """An HTTPS request with this certificate: its status and JSON."""
        context = self.identities.material(name, role).client_context()
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"https://127.0.0.1:{self.https.port}{path}", ssl=context) as answer,
        ):
            return answer.status, await answer.json()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for what the server notices a moment later than the caller. Fails after ten seconds."""
        async with asyncio.timeout(10):
            while not condition():  # noqa: ASYNC110 - nothing in the product tells tests
                await asyncio.sleep(0.01)

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


async def message(stream: Any) -> Any:
    """The next one; grpc's types would have it be anything."""
    return await stream.read()


async def _nothing(_: int) -> None:
    await asyncio.Event().wait()


def submission(task_id: str, a: int = 1, b: int = 2) -> pb.Submission:
    """A real submission of the addition circuit."""
    prepared = circuits.prepare("addition", {"a": a, "b": b})
    return pb.Submission(
        task_id=task_id, circuit="addition", inputs=prepared.inputs, public_inputs=prepared.public_inputs
    )


def introduction(worker_id: str, capacity: int = 1) -> pb.RegisterWorkerRequest:
    """How a worker with the cluster's keys introduces itself."""
    return pb.RegisterWorkerRequest(
        worker_id=worker_id,
        incarnation="first",
        capacity=capacity,
        circuits=[pb.CircuitKey(circuit="addition", verifying_key_sha256=KEY)],
        version="1.0",
    )
