"""A gateway from start to stop: what it is made of, in the order in which one part needs the other."""

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

_NETWORK_TIMEOUT_S = 10.0  # for finding a leader who answers; an election takes well under a second
_BODY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_REMEMBERED_CALLERS = 10_000
_PROCESSES = 2
_BODIES = 64  # in memory at a time, each of up to `max_body`; half of them for one caller: a burst fits
_BOUNDS = Bounds(known=4_096, anonymous=1_024)  # connections open at a time: callers keep theirs between requests
_WAITING = 1_000  # long polls at a time, each a stream to the leader


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Gateway:
    """One gateway, put together: the door for callers, and the one for whoever watches it.

    Whoever makes it starts and closes `preparation`; `stopping` says whether the process has been told to
    stop; `clock`, with its time zone, whether a certificate is still good. Raises `ApiKeyError`.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        certificates: Certificates,
        network: CoordinatorClient,
        preparation: SubmissionPool,
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
        self._preparation = preparation
        self._gauges()
        self._edge = RequestMiddleware(self._registry, time.monotonic)
        self.reach = LeaderProbe(network)
        """To be run in the background."""
        self.door = HttpsListener(
            self._application(network),
            settings.bind.host,
            settings.bind.port,
            self._material,
            require_client=False,
            bounds=_BOUNDS,
            caller_of=lambda request: request.get(CALLER),
            stop_timeout=_STOP_TIMEOUT_S,
            errors=self._edge.error_page,
        )
        bind = settings.metrics.bind
        self.watch = HttpsListener(self._watched(), bind.host, bind.port, self._material)

    async def start(self) -> None:
        """Listen. Raises `ListenError`."""
        await self.watch.start()
        await self.door.start()

    async def stop(self) -> None:
        """Let what was begun end, then close; also after a start that failed."""
        await self.door.stop()
        await self.watch.stop()

    def reload_keys(self) -> None:
        """Read the API keys again; raises `ApiKeyError`, and then the old ones stay good."""
        self._callers.keys = _read_keys(self._settings)
        log.info("API keys read: %d", len(self._callers.keys))

    def _application(self, network: CoordinatorClient) -> web.Application:
        settings = self._settings
        limits = BodyLimits(settings.max_body, _BODY_TIMEOUT_S)
        pages = TaskHandlers(network, self._preparation, limits, max_waiting=_WAITING)
        rate = RateLimit(settings.rate.per_second, settings.rate.burst, _REMEMBERED_CALLERS, time.monotonic)
        guard = AuthMiddleware(self._callers, rate, self._material, self._clock)
        return application(
            pages,
            self._edge,
            guard,
            healthy=lambda: self.reach.reachable,
            ready=self._is_ready,
            max_body=settings.max_body,
        )

    def _watched(self) -> web.Application:
        member = MemberStatus("gateway", self._settings.id, version())
        return monitoring_application(
            self._material,
            health=lambda: member.health(self._status(), **self._report()),
            ready=lambda: member.ready(self._is_ready(), **self._report()),
            registry=self._registry,
            requests=PageRequests(self._registry),
            clock=self._clock,
        )

    def _is_ready(self) -> bool:
        return self.reach.reachable and not self._stopping()

    def _status(self) -> Status:
        return Status.OK if self.reach.reachable else Status.UNAVAILABLE

    def _report(self) -> Mapping[str, object]:
        network = "reachable" if self.reach.reachable else "unreachable"
        return {"network": network, "stopping": self._stopping()}

    def _gauges(self) -> None:
        preparing = Gauge("zkp_gateway_bodies", "Bodies being read or prepared.", registry=self._registry)
        preparing.set_function(lambda: self._preparation.held)
        reachable = Gauge(
            "zkp_gateway_network_reachable",
            "1 when the leading coordinator answered last. 0: see that the coordinators have a leader.",
            registry=self._registry,
        )
        reachable.set_function(lambda: float(self.reach.reachable))


async def serve(settings: GatewaySettings, life: Lifecycle) -> None:
    """Serve until told to stop. Raises `DaemonError`, `TlsError`, `ApiKeyError`."""
    certificates = Certificates.load(tls_files(settings.tls))
    material = certificates.material
    preparation = SubmissionPool(_PROCESSES, _BODIES)
    async with (
        LeaderConnection([str(address) for address in settings.coordinators], material) as leader,
        StreamingTaskClient(leader, timeout=_NETWORK_TIMEOUT_S) as network,
    ):
        gateway = Gateway(settings, certificates, network, preparation, life.stop.is_set)
        certificates.on_change(leader.refresh)
        life.on_reload(certificates.reload)
        life.on_reload(gateway.reload_keys)
        try:
            await preparation.start()
            await gateway.start()
            life.background(gateway.reach.run(), name="reach")
            life.background(certificates.watch(), name="certificates")
            life.background(revocations.follow(leader, material.revoke), name="revocations")
            log.info("serving on %s", settings.bind)
            life.ready(f"serving on {settings.bind}")
            await life.stop.wait()
        finally:
            await gateway.stop()
            await preparation.close()


def _read_keys(settings: GatewaySettings) -> ApiKeys:
    return ApiKeys() if settings.api_keys_file is None else ApiKeys.read(settings.api_keys_file)
