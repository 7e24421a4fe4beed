"""Wire up, run and stop a worker process."""

import asyncio
import secrets
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from pki.tls.material import TlsError, TlsMaterial
from worker.agent import Agent, Phase
from worker.attempt_runner import AttemptRunner
from worker.config import WorkerSettings
from worker.errors import KeysError, WorkerError
from worker.metrics import WorkerMetrics
from worker.pool import ProverPool, prover_command
from worker.reports import LeaderReports
from worker.session import WorkerInfo
from worker.spool import Spool
from zkp.client import revocations
from zkp.client.leader import LeaderConnection
from zkp.daemon.certificates import Certificates
from zkp.daemon.health import Answer, MemberStatus, Status
from zkp.daemon.http_metrics import PageRequests
from zkp.daemon.https import HttpsListener
from zkp.daemon.lifecycle import Lifecycle
from zkp.daemon.monitoring import monitoring_application
from zkp.daemon.preflight import tls_files
from zkp.daemon.process_metrics import watch_process
from zkp.daemon.tls_metrics import TlsMetrics
from zkp.proofs.errors import ProofsError
from zkp.proofs.keys import KeyStore
from zkp.version import version

_SPOOL = "spool"
_STATUS = {
    Phase.ONLINE: Status.OK,
    Phase.SEARCHING: Status.DEGRADED,
    Phase.DRAINING: Status.DEGRADED,
    Phase.REFUSED: Status.UNAVAILABLE,
}


def proving_keys(directory: Path) -> dict[str, str]:
    """Return the circuits with a proving key in `directory`, and the SHA-256 of their verifying keys.

    Raises:
        KeysError: There are none, or the keys are damaged.
    """
    try:
        store = KeyStore(directory)
        keys = {name: key for name, key in store.verifying_keys().items() if store.can_prove(name)}
    except ProofsError as error:
        raise KeysError(str(error)) from None
    if not keys:
        raise KeysError(f"keys_dir: {directory} contains no proving keys; copy the network's keys there")
    return keys


async def serve(settings: WorkerSettings, life: Lifecycle) -> None:
    """Run the worker until `life.stop` is set.

    Raises:
        DaemonError: A problem that an operator must fix.
    """
    keys = proving_keys(settings.keys_dir)
    try:
        certificates = Certificates.load(tls_files(settings.tls))
    except TlsError as error:
        raise WorkerError(str(error)) from None
    spool = Spool(settings.data_dir / _SPOOL)
    pool = ProverPool(prover_command(settings.keys_dir, settings.memory_limit), settings.max_concurrent_tasks)
    try:
        await pool.start()
        addresses = [str(address) for address in settings.coordinators]
        async with LeaderConnection(addresses, certificates.material) as connection:
            await _work(
                life,
                settings=settings,
                certificates=certificates,
                keys=keys,
                spool=spool,
                pool=pool,
                connection=connection,
            )
    finally:
        await pool.stop()
        spool.close()


async def _work(
    life: Lifecycle,
    *,
    settings: WorkerSettings,
    certificates: Certificates,
    keys: Mapping[str, str],
    spool: Spool,
    pool: ProverPool,
    connection: LeaderConnection,
) -> None:
    material = certificates.material
    metrics = WorkerMetrics()
    metrics.registry.register(TlsMetrics(certificates))
    watch_process(metrics.registry, version=version(), data_dir=settings.data_dir)
    runner = AttemptRunner(
        pool=pool,
        proof_store=spool,
        reporter=LeaderReports(connection, settings.id),
        metrics=metrics,
        verifying_keys=keys,
        slots=settings.max_concurrent_tasks,
    )
    info = WorkerInfo(
        worker_id=settings.id,
        incarnation=secrets.token_hex(16),
        capacity=settings.max_concurrent_tasks,
        verifying_keys=keys,
        version=version(),
    )
    agent = Agent(connection=connection, info=info, runner=runner)
    application = _monitoring(material, metrics=metrics, agent=agent, info=info, runner=runner)
    listener = HttpsListener(application, settings.metrics.bind.host, settings.metrics.bind.port, material)
    await listener.start()
    runner.restore(spool.load())
    serving = life.background(agent.serve(), name="serving the leader")
    certificates.on_change(connection.refresh)
    certificates.on_change(agent.certificate_changed)
    life.background(certificates.watch(), name="certificates")
    life.background(revocations.follow(connection, material.revoke), name="revocations")
    life.on_reload(certificates.reload)
    life.on_reload(agent.retry_now)
    life.ready("working")
    try:
        await life.stop.wait()
        await agent.drain(settings.drain_timeout)
    finally:
        serving.cancel()
        await asyncio.wait([serving])
        await listener.stop()


def _monitoring(
    material: TlsMaterial,
    *,
    metrics: WorkerMetrics,
    agent: Agent,
    info: WorkerInfo,
    runner: AttemptRunner,
) -> web.Application:
    member = MemberStatus("worker", info.worker_id, info.version)

    def health() -> Answer:
        return member.health(
            _STATUS[agent.phase],
            state=agent.phase,
            leader=agent.leader,
            capacity=info.capacity,
            proving=runner.proving,
            held=len(runner.held()),
            circuits=list(info.verifying_keys),
        )

    def ready() -> Answer:
        return member.ready(agent.phase is Phase.ONLINE, state=agent.phase)

    metrics.register_gauges(
        capacity=info.capacity,
        proving=lambda: runner.proving,
        held=lambda: len(runner.held()),
        online=lambda: agent.phase is Phase.ONLINE,
    )
    requests = PageRequests(metrics.registry)
    return monitoring_application(material, health=health, ready=ready, registry=metrics.registry, requests=requests)
