"""Wire up, start and stop a gateway."""

import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge

from gateway.app import application
from gateway.callers import ApiKeys, Callers
from gateway.config import GatewaySettings
from gateway.handlers import CALLER, BodyLimits, TaskHandlers
from gateway.leader_probe import LeaderProbe
from gateway.middleware import AuthMiddleware, RequestMiddleware
from gateway.network import CoordinatorClient
from gateway.ratelimit import RateLimit
from gateway.submission_pool import SubmissionPool
from zkp.client import revocations
from zkp.client.leader import LeaderConnection
from zkp.client.streaming import StreamingTaskClient
from zkp.daemon.certificates import Certificates
from zkp.daemon.connections import Bounds
from zkp.daemon.health import MemberStatus, Status
from zkp.daemon.http_metrics import PageRequests
from zkp.daemon.https import HttpsListener
from zkp.daemon.lifecycle import Lifecycle
from zkp.daemon.monitoring import monitoring_application
from zkp.daemon.preflight import tls_files
from zkp.daemon.process_metrics import watch_process
from zkp.daemon.tls_metrics import TlsMetrics
from zkp.version import version

log = logging.getLogger("zkp.gateway")

_LEADER_TIMEOUT_S = 10.0  # to find a leader that answers; an election takes well under a second
_BODY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_MAX_TRACKED_CALLERS = 10_000
_PREPARING_PROCESSES = 2
_MAX_BODIES = 64  # in memory at a time, each up to `max_body`; one caller may use half, enough for a burst
_CONNECTION_BOUNDS = Bounds(known=4_096, anonymous=1_024)  # open connections; callers keep theirs between requests
_MAX_LONG_POLLS = 1_000  # at a time; each is a stream to the leader


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Gateway:
    """One gateway: the listener for callers and the listener for monitoring.

    The creator starts and closes `submission_pool`.

    Args:
        settings: The validated settings.
        certificates: The gateway's own certificate and the trusted CA certificates.
        network: The coordinators.
        submission_pool: Prepares submissions.
        stopping: Returns True once the process is shutting down.
        clock: Time-zone-aware current time, against which certificates are validated.

    Raises:
        ApiKeyError: The API key file is invalid.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        certificates: Certificates,
        network: CoordinatorClient,
        submission_pool: SubmissionPool,
        stopping: Callable[[], bool],
        *,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._settings = settings
        self._material = certificates.material
        self._stopping = stopping
        self._clock = clock
        self._callers = Callers(_read_keys(settings))
        self._registry = CollectorRegistry()
        self._registry.register(TlsMetrics(certificates))
        watch_process(self._registry, version=version())
        self._submission_pool = submission_pool
        self._register_gauges()
        self._request_middleware = RequestMiddleware(self._registry, time.monotonic)
        self.leader_probe = LeaderProbe(network)
        """Runs in the background; started by `serve`."""
        self.public_listener = HttpsListener(
            self._public_application(network),
            settings.bind.host,
            settings.bind.port,
            self._material,
            require_client=False,
            bounds=_CONNECTION_BOUNDS,
            caller_of=lambda request: request.get(CALLER),
            stop_timeout=_STOP_TIMEOUT_S,
            errors=self._request_middleware.error_response,
        )
        bind = settings.metrics.bind
        self.monitoring_listener = HttpsListener(self._monitoring_application(), bind.host, bind.port, self._material)

    async def start(self) -> None:
        """Start listening.

        Raises:
            ListenError: An address cannot be bound.
        """
        await self.monitoring_listener.start()
        await self.public_listener.start()

    async def stop(self) -> None:
        """Let running requests finish, then close; also valid after a failed start."""
        await self.public_listener.stop()
        await self.monitoring_listener.stop()

    def reload_keys(self) -> None:
        """Reload the API keys.

        Raises:
            ApiKeyError: The file is invalid; the previous keys stay valid.
        """
        self._callers.keys = _read_keys(self._settings)
        log.info("API keys loaded: %d", len(self._callers.keys))

    def _public_application(self, network: CoordinatorClient) -> web.Application:
        settings = self._settings
        limits = BodyLimits(settings.max_body, _BODY_TIMEOUT_S)
        handlers = TaskHandlers(network, self._submission_pool, limits, max_long_polls=_MAX_LONG_POLLS)
        rate = RateLimit(settings.rate.per_second, settings.rate.burst, _MAX_TRACKED_CALLERS, time.monotonic)
        auth_middleware = AuthMiddleware(self._callers, rate, self._material, self._clock)
        return application(
            handlers,
            self._request_middleware,
            auth_middleware,
            healthy=lambda: self.leader_probe.reachable,
            ready=self._is_ready,
            max_body=settings.max_body,
        )

    def _monitoring_application(self) -> web.Application:
        member = MemberStatus("gateway", self._settings.id, version())
        return monitoring_application(
            self._material,
            health=lambda: member.health(self._status(), **self._health_fields()),
            ready=lambda: member.ready(self._is_ready(), **self._health_fields()),
            registry=self._registry,
            requests=PageRequests(self._registry),
            clock=self._clock,
        )

    def _is_ready(self) -> bool:
        return self.leader_probe.reachable and not self._stopping()

    def _status(self) -> Status:
        return Status.OK if self.leader_probe.reachable else Status.UNAVAILABLE

    def _health_fields(self) -> Mapping[str, object]:
        network = "reachable" if self.leader_probe.reachable else "unreachable"
        return {"network": network, "stopping": self._stopping()}

    def _register_gauges(self) -> None:
        preparing = Gauge("zkp_gateway_bodies", "Request bodies being received or prepared.", registry=self._registry)
        preparing.set_function(lambda: self._submission_pool.bodies)
        reachable = Gauge(
            "zkp_gateway_network_reachable",
            "1 if the leading coordinator answered the last probe. 0: check that the coordinators have a leader.",
            registry=self._registry,
        )
        reachable.set_function(lambda: float(self.leader_probe.reachable))


async def serve(settings: GatewaySettings, life: Lifecycle) -> None:
    """Serve until `life.stop` is set.

    Raises:
        ApiKeyError: The API key file is invalid.
        DaemonError: A listener or the submission pool cannot start.
        TlsError: The certificates cannot be loaded.
    """
    certificates = Certificates.load(tls_files(settings.tls))
    material = certificates.material
    submission_pool = SubmissionPool(_PREPARING_PROCESSES, _MAX_BODIES)
    async with (
        LeaderConnection([str(address) for address in settings.coordinators], material) as leader,
        StreamingTaskClient(leader, timeout=_LEADER_TIMEOUT_S) as network,
    ):
        gateway = Gateway(settings, certificates, network, submission_pool, life.stop.is_set)
        certificates.on_change(leader.refresh)
        life.on_reload(certificates.reload)
        life.on_reload(gateway.reload_keys)
        try:
            await submission_pool.start()
            await gateway.start()
            life.background(gateway.leader_probe.run(), name="leader probe")
            life.background(certificates.watch(), name="certificates")
            life.background(revocations.follow(leader, material.revoke), name="revocations")
            log.info("serving on %s", settings.bind)
            life.ready(f"serving on {settings.bind}")
            await life.stop.wait()
        finally:
            await gateway.stop()
            await submission_pool.close()


def _read_keys(settings: GatewaySettings) -> ApiKeys:
    return ApiKeys() if settings.api_keys_file is None else ApiKeys.read(settings.api_keys_file)
