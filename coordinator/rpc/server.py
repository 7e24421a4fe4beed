"""The gRPC server: every bound in one place, the standard health and reflection services beside our own."""

import asyncio
from collections.abc import Callable
from typing import cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from coordinator.rpc.admin_service import AdminService
from coordinator.rpc.gate import CallGuard
from coordinator.rpc.revocation_service import RevocationService
from coordinator.rpc.serving.server import GrpcServer
from coordinator.rpc.task_service import TaskService
from coordinator.rpc.worker_service import WorkerService
from pki.tls.material import TlsMaterial
from zkp.daemon.errors import ListenError
from zkp.daemon.settings import Address
from zkp.protocol.v1 import coordinator_pb2 as pb
from zkp.protocol.v1 import coordinator_pb2_grpc as pb_grpc

SERVICES = tuple(service.full_name for service in pb.DESCRIPTOR.services_by_name.values())

_HEALTH_PERIOD_S = 0.5


class RpcServer:
    """Serves the API on one address from `start` to `stop`."""

    def __init__(
        self,
        gate: CallGuard,
        *,
        tasks: TaskService,
        workers: WorkerService,
        admin: AdminService,
        revocations: RevocationService,
        can_serve: Callable[[], bool],
        on_refused: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._server = GrpcServer(gate, on_refused=on_refused)
        target = cast("grpc.aio.Server", gate)  # as far as the generated functions use one
        pb_grpc.add_TaskServiceServicer_to_server(tasks, target)
        pb_grpc.add_WorkerServiceServicer_to_server(workers, target)
        pb_grpc.add_AdminServiceServicer_to_server(admin, target)
        pb_grpc.add_RevocationServiceServicer_to_server(revocations, target)
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, target)
        reflected = reflection.aio.ReflectionServicer((*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME))
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflected, target)  # type: ignore[no-untyped-call]
        self._can_serve = can_serve
        self._reporting: asyncio.Task[None] | None = None

    async def start(self, address: Address, material: TlsMaterial) -> int:
        """Listen, and return the port. Raises ListenError."""
        try:
            port = await self._server.start(address.host, address.port, material)
        except OSError as error:
            raise ListenError(
                f"cannot listen on {address}: {error.strerror or error}; "
                "stop the process that has this port, or give another"
            ) from None
        await self._report()
        self._reporting = asyncio.create_task(self._keep_reporting(), name="gRPC health")
        return port

    async def stop(self, grace_s: float) -> None:
        """Take no new calls; end those that still run after `grace_s` seconds."""
        if self._reporting is not None:
            self._reporting.cancel()
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    async def _keep_reporting(self) -> None:
        while True:
            await asyncio.sleep(_HEALTH_PERIOD_S)
            await self._report()

    async def _report(self) -> None:
        serving = health_pb2.HealthCheckResponse.SERVING
        status = serving if self._can_serve() else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", *SERVICES):
            await self._health.set(service, status)
