"""The gRPC server: every bound in one place, the standard health and reflection services beside our own."""

import asyncio
import resource
from collections.abc import Callable
from typing import cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from coordinator.rpc.admin_service import AdminService
from coordinator.rpc.gate import CallGuard
from coordinator.rpc.revocation_service import RevocationService
from coordinator.rpc.task_service import TaskService
from coordinator.rpc.worker_service import WorkerService
from zkp.daemon.errors import ListenError
from zkp.protocol.limits import MAX_MESSAGE_BYTES
from zkp.protocol.v1 import coordinator_pb2 as pb
from zkp.protocol.v1 import coordinator_pb2_grpc as pb_grpc

SERVICES = tuple(service.full_name for service in pb.DESCRIPTOR.services_by_name.values())

_HEALTH_PERIOD_S = 0.5
_HANDSHAKE_TIMEOUT_S = 10.0
_OPTIONS = (
    # gRPC does not report what it refuses; up to this size the guard refuses, and logs the sender.
    ("grpc.max_receive_message_length", 4 * MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 1024),  # of one connection
    ("grpc.so_reuseport", 0),  # a second process on this port is a mistake that must be seen
    # Detect dead peers, and disconnect peers that send too many pings.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 4),
    # A new connection has a new handshake, with the current certificates.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
)
_MAX_CALLS = 16_384


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
    ) -> None:
        options = (
            *_OPTIONS,
            ("grpc.server_handshake_timeout_ms", round(_HANDSHAKE_TIMEOUT_S * 1000)),
            # gRPC has no fairness between sources; this leaves descriptors to the other ports.
            ("grpc.max_allowed_incoming_connections", resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2),
        )
        self._server = grpc.aio.server(handlers=[gate], options=options, maximum_concurrent_rpcs=_MAX_CALLS)
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

    async def start(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Listen on HOST:PORT, and return the port. Raises ListenError."""
        try:
            port = self._server.add_secure_port(address, credentials)
        except RuntimeError:
            raise ListenError(
                f"cannot listen on {address}: stop the process that has this port, or give another"
            ) from None
        await self._report()
        await self._server.start()
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
