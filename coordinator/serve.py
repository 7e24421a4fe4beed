"""A coordinator from start to stop: what it is made of, in the order in which one part needs the other."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from coordinator.config.settings import CoordinatorSettings
from coordinator.errors import Unavailable
from coordinator.gc_tuning import collect_garbage_on_followers, tune_gc
from coordinator.leader.leases import LeaseTiming
from coordinator.leader.retention import RetentionLoop
from coordinator.monitoring.health import Health, RecordStatus
from coordinator.monitoring.projection import RecordGauges
from coordinator.monitoring.registry import Metrics
from coordinator.raft import RaftError, RaftOptions, RaftRunner, StorageError
from coordinator.raft.storage.directory_lock import directory_lock
from coordinator.replication.replicator import ReplicatedState, Replicator, wall_clock_ms
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
from coordinator.store import Database, ProjectionError, ProjectionReader, Projector, StateOutbox
from coordinator.wiring import Dependencies, Services
from pki.tls.material import TlsMaterial
from zkp.daemon.bounded_log import BoundedLog
from zkp.daemon.certificates import Certificates
from zkp.daemon.errors import DaemonError, ListenError
from zkp.daemon.http_metrics import PageRequests
from zkp.daemon.https import HttpsListener
from zkp.daemon.lifecycle import Lifecycle
from zkp.daemon.monitoring import monitoring_application
from zkp.daemon.preflight import tls_files
from zkp.daemon.process_metrics import watch_process
from zkp.daemon.tls_metrics import TlsMetrics
from zkp.proofs import ProofsError
from zkp.proofs.groth16 import Verifier
from zkp.proofs.keys import KeyStore
from zkp.version import version

log = logging.getLogger("zkp.coordinator")

_STOP_GRACE_S = 5.0  # for calls in progress when the process stops
_TRANSFER_TIMEOUT_S = 3.0
_PROJECTION_RETRY_S = 30.0  # retry interval after the database refused this cluster: an operator may have repaired it
_ATTEMPT_GRACE_S = 5.0  # the worker times out first, and reports it


class _RaftListener:
    """Forwards leadership changes to the replicator, which is created after the log that it uses."""

    replicator: Replicator | None = None

    def leading(self, term: int) -> None:
        if self.replicator is not None:
            self.replicator.leading(term)

    def following(self) -> None:
        if self.replicator is not None:
            self.replicator.following()


class Coordinator:
    """One node, put together. `stopping`: whether a stop of the process was requested.

    Raises StorageError when the node's own files cannot be used, ProofsError for its keys. Make it on the event loop.
    """

    def __init__(
        self, settings: CoordinatorSettings, certificates: Certificates, stopping: Callable[[], bool]
    ) -> None:
        self._settings = settings
        self._material = material = certificates.material
        self._metrics = Metrics()
        store = KeyStore(settings.proofs.keys_dir)
        self._verification = Verification(Verifier(store))
        replica = ReplicatedState()
        self.raft, self.replicator = _open_raft(settings, material, replica, self._metrics)
        self._build_authorization()
        self.revocations = self._build_revocations()
        certificates.on_change(self.raft.refresh_links)
        certificates.on_change(self._close_refused)
        self._services = self._build_services(CircuitKeys(store.verifying_keys(), self.replicator))
        self._cluster = Cluster(_members(settings), self.replicator)
        self._health = Health(
            self.replicator,
            self._cluster,
            self._services,
            self._record_status,
            version=version(),
            stopping=stopping,
        )
        self._watch(certificates)
        self._rpc = self._rpc_server()
        self._https = self._https_listeners()

    def _build_authorization(self) -> None:
        self._open_calls = OpenCalls()
        self._authorization = Authorization(
            self._material,
            now=lambda: datetime.now(UTC),
            log=BoundedLog(log, time.monotonic),
            count=lambda reason: self._metrics.refused("grpc", reason),
        )

    def _build_revocations(self) -> Revocations:
        """Register them before the services, so that a revoked caller gets UNAUTHENTICATED and no secondary error."""
        revocations = Revocations(
            self.replicator,
            refuse=self._material.revoke,
            close=self._close_refused,
            find_worker=self._worker_with_certificate,
            find_caller=self._caller_with_certificate,
            clock_ms=wall_clock_ms,
        )
        revocations.catch_up()
        return revocations

    def _build_services(self, keys: CircuitKeys) -> Services:
        """Connect the use cases with the log and the projection."""
        settings = self._settings
        if not keys.local:
            log.warning("no verifying keys in %s: no task will be accepted", settings.proofs.keys_dir)
        database = Database(settings.database.parameters(), application=settings.node.id)
        self._record = ProjectionReader(database, settings.database.max_open_conns - 1, self._metrics.record)
        outbox = StateOutbox(lambda: self.replicator.state)
        self.replicator.on_events(lambda _: outbox.notify())
        retention = RetentionLoop(self.replicator, settings.tasks.retention, time.monotonic)
        self._projector = Projector(database, outbox, retention.acknowledge, self._metrics.record)
        dependencies = Dependencies(
            replicator=self.replicator,
            record=TaskReader(self._record, lambda: self.replicator.state),
            projection_task=self._run_projection,
            retention_task=lambda _: retention.run(),
            keys=keys,
            verification=self._verification,
            metrics=self._metrics,
            clock=time.monotonic,
        )
        return Services(dependencies, _task_limits(settings), _lease_timing(settings))

    async def start(self) -> None:
        """Join the cluster, then listen for callers. Raises ListenError."""
        try:
            await self.raft.start()
        except OSError as error:
            raise ListenError(
                f"cannot listen on {self._settings.raft.bind}: {error.strerror or error}; "
                "stop the process that has this port, or correct raft.bind"
            ) from None
        for listener in self._https:
            await listener.start()
        await self._rpc.start(self._settings.grpc.bind, self._material)

    async def stop(self) -> None:
        """Transfer leadership, end open streams, and stop. Also valid after a failed start."""
        await self._transfer_leadership()
        reason = Unavailable("this coordinator is stopping: ask another")
        steps: tuple[Callable[[], Awaitable[None]], ...] = (
            lambda: self._services.stop(reason),
            lambda: self._end_revocation_streams(reason),
            lambda: self._rpc.stop(_STOP_GRACE_S),
            *(listener.stop for listener in reversed(self._https)),
            self.raft.stop,
            self._record.close,
        )
        for step in steps:
            try:
                await step()
            except Exception:
                log.exception("a step of the shutdown failed; continuing")
        self._verification.close()

    async def _transfer_leadership(self) -> None:
        alone = len(self._cluster.members) == 1
        if alone or not self.replicator.is_leader or self.raft.fatal.done():
            return
        try:
            async with asyncio.timeout(_TRANSFER_TIMEOUT_S):
                leader = await self.replicator.transfer_leadership(None)
            log.info("leadership transferred to %s", leader)
        except (RaftError, TimeoutError) as error:
            log.warning("leadership was not transferred: %s", str(error) or "no answer in time")

    # ------------------------------------------------------------ revocation

    def _close_refused(self) -> None:
        """Close calls and links of revoked certificates; the HTTPS listeners check by themselves."""
        self._open_calls.end(self._material.revoked_serials())
        self.raft.check_links()

    def _worker_with_certificate(self, serial: str) -> str:
        return self._services.workers.worker_using_certificate(serial)

    def _caller_with_certificate(self, serial: str) -> str:
        identity = self._authorization.caller_with(int(serial, 16))
        return f"{identity.role}/{identity.name}" if identity else ""

    async def _end_revocation_streams(self, reason: Exception) -> None:
        self.revocations.end_all(reason)

    # ------------------------------------------------------------ projection

    async def _run_projection(self, term: int) -> None:
        while True:
            # The projector logs why it does not write.
            with contextlib.suppress(ProjectionError):
                await self._projector.run(term)
            await asyncio.sleep(_PROJECTION_RETRY_S)

    def _record_status(self) -> RecordStatus:
        return RecordStatus(self._projector.status, self._projector.lag, self._projector.last_error)

    def _watch(self, certificates: Certificates) -> None:
        """Register the metrics of this node."""
        tasks = self._settings.tasks
        registry = self._metrics.registry
        self._metrics.watch(self.replicator, self._health, self.raft)
        self._metrics.limits(
            pending=tasks.max_backlog, unprojected=tasks.max_unprojected, time_limit=tasks.time_limit
        )
        registry.register(
            RecordGauges(
                self._projector,
                lambda: self._record.connections,
                lambda: len(self.replicator.state.outbox),
                lambda: self.replicator.is_leader,
            )
        )
        registry.register(TlsMetrics(certificates))
        watch_process(registry, version=version(), data_dir=self._settings.node.data_dir)

    # ------------------------------------------------------------ listeners

    def _rpc_server(self) -> RpcServer:
        admin = AdminService(
            self.replicator,
            self._cluster,
            self._services.leases,
            self._health,
            self.revocations,
            clock=time.monotonic,
            now_ms=wall_clock_ms,
            version=version(),
        )
        timing = _worker_timing(self._settings)
        return RpcServer(
            CallGuard(self._authorization, self._cluster.leader_address, self._metrics.called, self._open_calls),
            tasks=TaskService(self._services.tasks),
            workers=WorkerService(self._services.workers, self._services.reports, timing),
            admin=admin,
            revocations=RevocationService(self.revocations),
            can_serve=self._health.can_serve,
            on_refused=lambda reason: self._metrics.refused("grpc", reason),
        )

    def _https_listeners(self) -> tuple[HttpsListener, ...]:
        material = self._material
        requests = PageRequests(self._metrics.registry)
        health = monitoring_application(
            material, health=self._health.health, ready=self._health.ready, requests=requests
        )
        metrics = monitoring_application(material, registry=self._metrics.registry, requests=requests)
        places = ((health, self._settings.health.bind), (metrics, self._settings.metrics.bind))
        return tuple(HttpsListener(application, bind.host, bind.port, material) for application, bind in places)


async def serve(settings: CoordinatorSettings, life: Lifecycle) -> None:
    """Serve until a stop is requested. Raises DaemonError with one line: the cause and the remedy."""
    try:
        with directory_lock(settings.node.data_dir):
            await _serve_locked(settings, life)
    except ProofsError as error:
        raise DaemonError(str(error)) from None
    except StorageError as error:
        raise _in_directory(settings, error) from None


async def _serve_locked(settings: CoordinatorSettings, life: Lifecycle) -> None:
    certificates = Certificates.load(tls_files(settings.tls))
    coordinator = Coordinator(settings, certificates, life.stop.is_set)
    life.on_reload(certificates.reload)
    try:
        await coordinator.start()
        tune_gc()
        life.background(certificates.watch(), name="certificates")
        life.background(coordinator.revocations.run(), name="revocations")
        life.background(collect_garbage_on_followers(lambda: coordinator.replicator.is_leader), name="collector")
        life.background(_fatal(settings, coordinator.raft.fatal), name="raft")
        log.info("serving on %s", settings.grpc.bind, extra={"node_id": settings.node.id})
        life.ready(f"serving on {settings.grpc.bind}")
        await life.stop.wait()
    finally:
        await coordinator.stop()


async def _fatal(settings: CoordinatorSettings, error: Awaitable[StorageError]) -> None:
    """Raise the storage error of the node: a node with an unreliable disk must stop."""
    raise _in_directory(settings, await error)


def _in_directory(settings: CoordinatorSettings, error: StorageError) -> DaemonError:
    return DaemonError(f"{settings.node.data_dir}: {error}")


def _open_raft(
    settings: CoordinatorSettings, material: TlsMaterial, replica: ReplicatedState, metrics: Metrics
) -> tuple[RaftRunner, Replicator]:
    own = settings.node.id
    peers = {peer.id: peer.raft for peer in settings.raft.peers if peer.id != own}
    listener = _RaftListener()
    runner = RaftRunner(
        RaftOptions(
            node_id=own,
            peer_ids=tuple(peers),
            bootstrap=settings.raft.bootstrap,
            heartbeat=settings.raft.heartbeat,
            election_timeout=settings.raft.election_timeout,
        ),
        directory=settings.node.data_dir,
        bind=settings.raft.bind,
        peers=peers,
        material=material,
        machine=replica,
        listener=listener,
        on_refused=lambda reason: metrics.refused("raft", reason),
        on_append=metrics.raft.append.observe,
        on_sync=metrics.raft.fsync.observe,
    )
    replicator = Replicator(own, replica, runner)
    listener.replicator = replicator
    return runner, replicator


def _members(settings: CoordinatorSettings) -> list[NodeStatus]:
    return [NodeStatus(peer.id, str(peer.raft), str(peer.grpc)) for peer in settings.raft.peers]


def _task_limits(settings: CoordinatorSettings) -> TaskLimits:
    tasks = settings.tasks
    return TaskLimits(tasks.max_backlog, tasks.max_unprojected, tasks.max_retries)


def _lease_timing(settings: CoordinatorSettings) -> LeaseTiming:
    tasks = settings.tasks
    return LeaseTiming(tasks.lease, tasks.start_timeout, tasks.time_limit + _ATTEMPT_GRACE_S)


def _worker_timing(settings: CoordinatorSettings) -> WorkerTiming:
    tasks = settings.tasks
    return WorkerTiming(
        heartbeat_interval_ms=round(tasks.heartbeat_interval * 1000),
        lease_ms=round(tasks.lease * 1000),
        time_limit_ms=round(tasks.time_limit * 1000),
    )
