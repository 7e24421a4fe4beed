"""Revocation in a running network: immediate, on every port, and permanent."""

import functools
import http.client
import logging
import time
from asyncio import to_thread
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pki.tls.material import TlsFiles, TlsMaterial
from tests.integration.cluster.network import WAIT_TIMEOUT_S, Network, eventually, frozen, running
from tests.integration.cluster.work import check_recorded_once, finished, submission, submit, under_way
from tests.integration.rotation.authority import Operator
from tests.integration.rotation.conftest import MakeOperator
from tests.integration.rotation.port_probe import PortProbe
from zkp.cli import app
from zkp.cli.target import ClusterTarget
from zkp.client.errors import ClientError
from zkp.client.tasks import TaskClient
from zkp.localcluster.layout import CLIENT, COORDINATORS, GATEWAY

WORKERS = ("worker-1", "worker-2")
HOSTS = ("--host", "127.0.0.1", "--host", "localhost")

log = logging.getLogger(__name__)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Network]:
    """A network whose leases are long: what is proved by another before they end was taken back."""
    directory = tmp_path_factory.mktemp("revocation") / "zkp"
    with running(directory, keys, variables={"COORDINATOR_TASKS_LEASE": "300s"}) as up:
        yield up


@pytest.fixture
def operator(network: Network, operator_of: MakeOperator) -> Operator:
    return operator_of(network)


def revoke(network: Network, serial: str) -> None:
    """As an admin does; returns when it is agreed on."""
    arguments = ["admin", "revoke", serial, "--reason", "key-compromise", "--dir", str(network.layout.root)]
    assert app.run(arguments) == 0


def issue(operator: Operator, name: str, role: str) -> None:
    """A new certificate in the place of one that was revoked, or for somebody new."""
    out = str(operator.directory(name).parent)
    operator.pki("issue", name, "--role", role, *HOSTS, "--out", out, "--replace")


def probe(operator: Operator, name: str) -> PortProbe:
    return PortProbe(operator.directory(name), operator.directory(CLIENT))


def measured(what: str, condition: Callable[[], bool]) -> None:
    """Wait for it; how long that took is logged (`pytest --log-cli-level=info`) and decides nothing."""
    began = time.monotonic()
    eventually(what, condition)
    log.info("%s after %.2f s", what, time.monotonic() - began)


def is_refused(network: Network, worker: str) -> bool:
    return bool(network.health(worker).get("state") == "refused")


def is_online(network: Network, worker: str) -> bool:
    return bool(network.health(worker).get("state") == "online")


async def test_a_revoked_worker_is_gone_its_task_is_proved_by_another_and_it_cannot_come_back(
    network: Network, operator: Operator
) -> None:
    """Its stream ends and no node serves it, one that was down when it happened neither; with another certificate it
    is welcome, without a restart."""
    leader, _ = network.agreed()
    sleeper = next(name for name in COORDINATORS if name != leader)
    network.cluster.stop(sleeper)
    async with network.client() as client:
        with frozen(*network.provers(*WORKERS)):
            (task_id,) = await submit(client, submission())
            lost = (await under_way(client, task_id)).worker_id or ""
            (other,) = set(WORKERS) - {lost}
            assert await to_thread(probe(operator, lost).accepting_ports, network)
            start = network.log_size(lost)

            await to_thread(revoke, network, operator.serial(lost))

            await to_thread(measured, "its stream ends", functools.partial(is_refused, network, lost))
            # Who is refused everywhere cannot be told either: its own ports have not learned it either.
            thief = functools.partial(probe(operator, lost).is_refused, network, lost)
            await to_thread(measured, "every port refuses", thief)
            assert "is revoked" in network.log(lost, start)
        tasks = await finished(client, [task_id])
    assert (tasks[task_id].worker_id, tasks[task_id].attempt, tasks[task_id].retries) == (other, 2, 0)
    check_recorded_once(network, tasks)

    network.cluster.start(sleeper)
    network.wait_until_ready(sleeper)
    await to_thread(eventually, f"{sleeper} has learnt it", thief)
    network.cluster.kill(lost)
    network.cluster.start(lost)
    await to_thread(eventually, "a new process is refused as well", functools.partial(is_refused, network, lost))
    async with network.admin() as admin:
        states = {worker.id: worker.state for worker in (await admin.cluster_status()).workers}
        assert states == {lost: "offline", other: "online"}
        listed = {int(one.serial, 16): (one.subject, one.reason) for one in await admin.revocations()}
    assert listed[int(operator.serial(lost), 16)] == (f"worker/{lost}", "key-compromise")

    issue(operator, lost, "worker")
    await to_thread(eventually, "it is back with another certificate", functools.partial(is_online, network, lost))


async def test_what_a_revoked_client_has_open_ends(network: Network, operator: Operator) -> None:
    """A watch at the leader ends with the reason, and connections that were kept open are closed, at workers and
    gateways too; everybody else's go on."""
    issue(operator, "eve", "client")
    mine = TlsMaterial.load(TlsFiles.in_directory(operator.directory("eve")))
    ports = {
        "gateway": (GATEWAY, "https"),
        "worker": ("worker-1", "health"),
        "coordinator": ("coordinator-1", "health"),
    }
    access = ClusterTarget(network.cluster.profile.coordinators, operator.directory("eve"))
    async with network.client() as client, access.connect() as connection:
        open_ones = {name: _connect(network.address(*place), mine) for name, place in ports.items()}
        with frozen(*network.provers(*WORKERS)):
            (task_id,) = await submit(client, submission())
            versions = TaskClient(connection, timeout=WAIT_TIMEOUT_S).watch(task_id)
            await anext(versions)

            await to_thread(revoke, network, operator.serial("eve"))

            with pytest.raises(ClientError, match="is revoked"):
                async for _ in versions:
                    pass
            for name, kept in open_ones.items():
                await to_thread(measured, f"{name} closes", functools.partial(_is_closed, kept))
                kept.close()
        assert (await finished(client, [task_id]))[task_id].proof
    await to_thread(eventually, "every port refuses", functools.partial(probe(operator, "eve").is_refused, network))


def test_a_revoked_coordinator_is_cut_off_by_its_peers(network: Network, operator: Operator) -> None:
    """The others go on in the same term; with another certificate it joins them again, and no election begins."""
    before = network.agreed()
    lost = next(name for name in COORDINATORS if name != before[0])
    others = [name for name in COORDINATORS if name != lost]

    revoke(network, operator.serial(lost))

    gone = functools.partial(_links, network, others, lost, up=False)
    measured("its links are closed", gone)
    eventually("every port refuses it", functools.partial(probe(operator, lost).is_refused, network, lost))
    assert {network.views()[name] for name in others} == {before}

    issue(operator, lost, "coordinator")
    eventually("it is back", functools.partial(_links, network, others, lost, up=True))
    with network.unmoved():
        assert network.agreed() == before


def _links(network: Network, nodes: list[str], peer: str, *, up: bool) -> bool:
    """Whether each of these nodes is connected, or not, to that peer."""
    seen = [network.health(node).get("raft", {}).get("peers", {}).get(peer, {}) for node in nodes]
    return all(view.get("connected") is up for view in seen)


def _connect(address: str, mine: TlsMaterial) -> http.client.HTTPSConnection:
    """A connection that has been used, and is kept."""
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), timeout=WAIT_TIMEOUT_S, context=mine.client_context())
    connection.request("GET", "/health")
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200
    return connection


def _is_closed(connection: http.client.HTTPSConnection) -> bool:
    """Whether the other side has closed it."""
    connection.sock.settimeout(0.01)
    try:
        return not connection.sock.recv(1)
    except TimeoutError:
        return False
    except OSError:
        return True
    finally:
        connection.sock.settimeout(WAIT_TIMEOUT_S)
