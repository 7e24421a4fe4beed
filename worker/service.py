"""The worker process put together: what `worker --config FILE` runs, from settings to the last report."""

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
    """Circuits that can be proved with the keys here, and the SHA-256 of their verifying keys.

    Raises `KeysError` when there are none, or they are damaged.
    """
    try:
        store = KeyStore(directory)
        keys = {name: key for name, key in store.verifying_keys().items() if store.can_prove(name)}
    except ProofsError as error:
        raise KeysError(str(error)) from None
    if not keys:
        raise KeysError(f"keys_dir: {directory} holds no proving key: copy the network's keys there")
    return keys


async def serve(settings: WorkerSettings, life: Lifecycle) -> None:
    """Work until `life.stop`; raises `DaemonError` for what an operator has to mend."""
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
    workbench = AttemptRunner(
        pool=pool,
        shelf=spool,
        reporter=LeaderReports(connection, settings.id),
        tally=metrics,
        verifying_keys=keys,
        slots=settings.max_concurrent_tasks,
    )
    membership = WorkerInfo(
        worker_id=settings.id,
        incarnation=secrets.token_hex(16),
        capacity=settings.max_concurrent_tasks,
        verifying_keys=keys,
        version=version(),
    )
    agent = Agent(connection=connection, membership=membership, workbench=workbench)
    metrics.watch(
        capacity=membership.capacity,
        proving=lambda: workbench.proving,
        held=lambda: len(workbench.held()),
        online=lambda: agent.phase is Phase.ONLINE,
    )
    bind = settings.metrics.bind
    application = _monitoring(material, metrics=metrics, agent=agent, membership=membership, workbench=workbench)
    listener = HttpsListener(application, bind.host, bind.port, material)
    await listener.start()
    workbench.restore(spool.load())
    serving = life.background(agent.serve(), name="serving the leader")
    certificates.on_change(connection.refresh)
    certificates.on_change(agent.renew)
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
    membership: WorkerInfo,
    workbench: AttemptRunner,
) -> web.Application:
    member = MemberStatus("worker", membership.worker_id, membership.version)

    def health() -> Answer:
        return member.health(
            _STATUS[agent.phase],
            state=agent.phase,
            leader=agent.leader,
            capacity=membership.capacity,
            proving=workbench.proving,
            held=len(workbench.held()),
            circuits=list(membership.verifying_keys),
        )

    def ready() -> Answer:
        return member.ready(agent.phase is Phase.ONLINE, state=agent.phase)

    requests = PageRequests(metrics.registry)
    return monitoring_application(material, health=health, ready=ready, registry=metrics.registry, requests=requests)
