"""Things break in a running network: the right alert fires, and only what follows from it; mended, all is silent.

The rules are the shipped ones with shorter durations. What this machine's own load may set off is left out.
"""

import contextlib
import http.client
import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pki.files import TlsFiles
from pki.store.store import AuthorityStore, CertificateSpec
from pki.tls.material import TlsMaterial
from pki.x509.identity import Role
from tests.integration.cluster.attacker import HOSTS, NOISE, CertificateFactory
from tests.integration.cluster.network import eventually, frozen
from tests.integration.cluster.test_byzantine_workers import byzantine_worker
from tests.integration.cluster.work import submission, submit
from tests.integration.monitoring.watched import Firing, Watched, watched
from tests.integration.raft_process.mounts import mount, require_root, skip_unmountable, unmount
from zkp.localcluster.layout import ADMIN, COORDINATORS, GATEWAY, POSTGRES
from zkp.proofs import circuits

WORKERS = ("worker-1", "worker-2")
OF_THE_MACHINE = frozenset({"FsyncSlow", "LatencyBudgetBurning", "RepeatedElections"})
_TMPFS = 16 << 20
_SHORT_LIFE = timedelta(seconds=45)  # longer than it takes to load it and to page, on a loaded machine


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Watched]:
    """Watched, and with leases that do not outlast a test's patience."""
    with watched(tmp_path_factory.mktemp("breakages"), keys, COORDINATOR_TASKS_LEASE="5s") as found:
        yield found


class Breakage:
    """What has fired since something broke."""

    def __init__(self, network: Watched, before: set[Firing]) -> None:
        self._network = network
        self._before = before
        self._began = time.monotonic()

    def fires(self, *right: Firing) -> None:
        """Each of these, before long."""
        eventually(f"{', '.join(map(str, right))}", lambda: self._network.firing() >= set(right))

    def mended(self, *allowed: Firing) -> None:
        """All is silent again before long, and nothing but these has fired meanwhile."""
        eventually("silence", lambda: self._now() == set())
        since = f"{time.monotonic() - self._began:.0f}s"
        ever = self._network.query(f'max_over_time(ALERTS{{alertstate="firing"}}[{since}])')
        fired = {Firing.of(sample.labels) for sample in ever} - self._before
        assert {one for one in fired if one.name not in OF_THE_MACHINE} - set(allowed) == set()

    def _now(self) -> set[Firing]:
        return {one for one in self._network.firing() - self._before if one.name not in OF_THE_MACHINE}


@pytest.fixture
def breakage(network: Watched) -> Breakage:
    """Begins in silence, but for what this machine's own disk has to say."""

    def before() -> set[Firing] | None:
        if network.query("up == 0"):
            return None  # a daemon that the test before has started again
        found = network.firing(or_pending=True)
        return found if {one.name for one in found} <= {"DiskNearlyFull", *OF_THE_MACHINE} else None

    return Breakage(network, eventually("silence before the test", before))


def down(*nodes: str) -> list[Firing]:
    """What Prometheus says of daemons that do not answer."""
    return [Firing("NodeDown", node) for node in nodes]


def test_a_killed_leader(network: Watched, breakage: Breakage) -> None:
    """Another leads at once: what is said is that a node is missing, and that no other may go."""
    cluster = network.network.cluster
    victim = network.network.leader().id
    cluster.kill(victim)
    right = [*down(victim), Firing("QuorumAtRisk")]
    breakage.fires(*right)
    cluster.start(victim)
    breakage.mended(*right)


def test_a_lost_majority(network: Watched, breakage: Breakage) -> None:
    """Nobody leads: that is the alert that pages."""
    cluster = network.network.cluster
    first, second, _ = COORDINATORS
    cluster.kill(first)
    cluster.kill(second)
    right = [*down(first, second), Firing("NoLeader")]
    breakage.fires(*right)
    cluster.start(first)
    cluster.start(second)
    breakage.mended(*right, Firing("QuorumAtRisk"))


def test_a_stopped_postgres(network: Watched, breakage: Breakage) -> None:
    """The leader says that it does not reach it."""
    cluster = network.network.cluster
    leader = network.network.leader().id
    cluster.stop(POSTGRES)
    breakage.fires(Firing("PostgresAway", leader))
    cluster.start(POSTGRES)
    breakage.mended(Firing("PostgresAway", leader))


def test_stopped_workers(network: Watched, breakage: Breakage) -> None:
    """Every circuit is named that nobody can prove now."""
    cluster = network.network.cluster
    for worker in WORKERS:
        cluster.stop(worker)
    right = [*down(*WORKERS), *(Firing("NoWorkerForCircuit", circuit) for circuit in circuits.NAMES)]
    breakage.fires(*right)
    for worker in WORKERS:
        cluster.start(worker)
        network.network.wait_until_ready(worker)
    breakage.mended(*right)


def test_a_stopped_gateway(network: Watched, breakage: Breakage) -> None:
    """The only one there is: clients cannot come in."""
    cluster = network.network.cluster
    cluster.stop(GATEWAY)
    right = [*down(GATEWAY), Firing("NoGateway")]
    breakage.fires(*right)
    cluster.start(GATEWAY)
    breakage.mended(*right)


def test_a_certificate_that_ends_soon(network: Watched, breakage: Breakage) -> None:
    """Said of the node whose it is, until it has another."""
    issue(network, timedelta(hours=1))
    right = Firing("CertificateExpiring", "worker-1")
    breakage.fires(right)
    issue(network, None)
    breakage.mended(right)


def test_a_certificate_that_ends(network: Watched, breakage: Breakage) -> None:
    """It pages before, and says so afterwards; the network takes the worker for nobody, until it has another."""
    place = network.network.address("worker-1", "health")
    issue(network, _SHORT_LIFE)
    files = TlsFiles.in_directory(network.network.layout.identity("worker-1"))
    ends = TlsMaterial.load(files).certificate.not_valid_after_utc
    right = Firing("CertificateExpiring", "worker-1")
    breakage.fires(right)
    assert network.query('ALERTS{alertname="CertificateExpiring", alertstate="firing", severity="critical"}')
    eventually("its end", lambda: datetime.now(UTC) > ends)
    # Who knows its address can still see what it says of itself; who looks at its certificate turns away.
    eventually("the end of its service", lambda: ask(place, careless(network)).get("state") == "refused")
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate has expired"):
        ask(place, TlsMaterial.load(TlsFiles.in_directory(network.network.layout.identity(ADMIN))).client_context())
    issue(network, None)
    network.network.wait_until_ready("worker-1")
    breakage.mended(right, *down("worker-1"))


def careless(network: Watched) -> ssl.SSLContext:
    """To dial as an admin who takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    files = TlsFiles.in_directory(network.network.layout.identity(ADMIN))
    context.load_cert_chain(files.certificate, files.key)
    return context


def ask(place: str, context: ssl.SSLContext) -> Mapping[str, object]:
    """What the daemon at HOST:PORT says at /health."""
    host, _, port = place.rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), timeout=30, context=context)
    try:
        connection.request("GET", "/health")
        document: Mapping[str, object] = json.loads(connection.getresponse().read())
        return document
    finally:
        connection.close()


def issue(network: Watched, life: timedelta | None) -> None:
    """Give worker-1 a certificate of that life, or of the usual one."""
    layout = network.network.layout
    order = CertificateSpec("worker-1", Role.WORKER, HOSTS, life=life)
    store = AuthorityStore.open(layout.pki)
    store.issue([order], layout.identities, now=datetime.now(UTC), by="a test", replace=True)


def test_a_certificate_that_cannot_be_used(network: Watched, breakage: Breakage) -> None:
    """A key that does not fit: the daemon goes on with the old files, and says so."""
    key = network.network.layout.identity("worker-2") / "key.pem"
    kept = key.read_bytes()
    shutil.copyfile(network.network.layout.identity(GATEWAY) / "key.pem", key)
    right = Firing("CertificateReloadFailed", "worker-2")
    breakage.fires(right)
    key.write_bytes(kept)
    breakage.mended(right)


def test_a_full_disk(network: Watched, breakage: Breakage) -> None:
    """Warning and page, of the node whose disk it is."""
    with small_disk(network, "worker-2") as place:
        space = os.statvfs(place)
        filler = place / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, int(space.f_bavail * space.f_frsize * 0.97))
        right = Firing("DiskNearlyFull", "worker-2")
        breakage.fires(right)
        filler.unlink()
        breakage.mended(right, *down("worker-2"))


@contextlib.contextmanager
def small_disk(network: Watched, worker: str) -> Iterator[Path]:
    """The worker keeps its proofs on a small disk in this context. Skips where none can be mounted."""
    require_root()
    cluster, place = network.network.cluster, network.network.layout.data(worker)
    cluster.stop(worker)
    try:
        mount("tmpfs", place, "-t", "tmpfs", "-o", f"size={_TMPFS},mode=0700")
    except subprocess.CalledProcessError as error:
        skip_unmountable(error)
    try:
        cluster.start(worker)
        yield place
    finally:
        cluster.stop(worker)
        unmount(place)
        cluster.start(worker)
        network.network.wait_until_ready(worker)


async def test_a_false_proof(network: Watched, breakage: Breakage, keys: Path, tmp_path: Path) -> None:
    """Whoever sent it is in quarantine until an operator says otherwise."""
    found = network.network
    certificates = CertificateFactory(found.layout, tmp_path)
    async with (
        found.client() as client,
        found.admin() as admin,
        byzantine_worker(found, certificates, keys, "liar") as worker,
    ):
        with frozen(*found.provers(*WORKERS)):
            await submit(client, *(submission() for _ in range(4)))
            given = await worker.assignment()
            assert await worker.complete(given.task_id, given.attempt, NOISE[:256]) is not None
        false = Firing("FalseProofs", "addition")
        breakage.fires(false, Firing("WorkerQuarantined"))
        await admin.release_worker("liar")
        # Prometheus knows nothing of a worker that came by itself.
        breakage.mended(false, Firing("WorkerQuarantined"), Firing("TargetMissing"))
