"""From a node that dies to the message on somebody's desk, through a real Prometheus and a real Alertmanager."""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pki.store.store import AuthorityStore, CertificateSpec
from pki.x509.identity import Role
from tests.integration.cluster.attacker import HOSTS
from tests.integration.cluster.network import eventually
from tests.integration.cluster.work import submission, submit
from tests.integration.monitoring.alerting import Alertmanager, Notification, alertmanager
from tests.integration.monitoring.test_breakages import OF_THE_MACHINE
from tests.integration.monitoring.watched import Firing, Watched, watched
from zkp.localcluster.layout import COORDINATORS

_ALERTMANAGER = "alertmanager"
_WORKER = "worker-1"
_RANGES = 5  # so that a rate outlives its node by a minute: long enough to follow from the node's end
_SLOW_DISK = """
import os, time
soon = os.fdatasync
def fdatasync(descriptor):
    time.sleep(0.2)
    soon(descriptor)
os.fdatasync = fdatasync
"""


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Watched]:
    """Watched, and nobody is told yet."""
    with watched(tmp_path_factory.mktemp("notifications"), keys, range_hurry=_RANGES) as found:
        yield found


@pytest.fixture
def victim(network: Watched, tmp_path: Path) -> str:
    """A follower whose disk takes a fifth of a second for each sync."""
    cluster, leader = network.network.cluster, network.network.leader().id
    name = next(name for name in COORDINATORS if name != leader)
    (tmp_path / "sitecustomize.py").write_text(_SLOW_DISK, encoding="utf-8")
    cluster.stop(name)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", str(tmp_path))
        cluster.start(name)
    network.network.wait_until_ready(name)
    eventually("calm", lambda: not network.query("up == 0") and not down(network.firing(or_pending=True)))
    return name


def down(found: set[Firing]) -> set[Firing]:
    """Those that speak of nodes that do not answer."""
    return {one for one in found if one.name in {"NodeDown", "QuorumAtRisk"}}


@pytest.fixture
def told(network: Watched, victim: str, tmp_path: Path) -> Iterator[Alertmanager]:
    """An Alertmanager that Prometheus has found, over mutual TLS."""
    assert victim
    layout = network.network.layout
    order = CertificateSpec(_ALERTMANAGER, Role.PROMETHEUS, HOSTS)
    AuthorityStore.open(layout.pki).issue([order], tmp_path, now=datetime.now(UTC), by="a test")
    with alertmanager(tmp_path / "running", tmp_path / _ALERTMANAGER) as found:
        groups = [{"targets": [found.address], "labels": {"node": _ALERTMANAGER}}]
        (layout.prometheus / "targets" / "alertmanager.json").write_text(json.dumps(groups), encoding="utf-8")
        eventually("Prometheus to find it", lambda: network.ask("alertmanagers")["activeAlertmanagers"])
        yield found


def test_a_dead_node_is_one_message(network: Watched, victim: str, told: Alertmanager) -> None:
    """Two daemons die: one ticket names both, one page says that no further node may go, and the node's slow disk,
    which still shows in the rates, is no news. Once they run again the ticket is closed."""
    cluster, inbox = network.network.cluster, told.inbox
    slow = Firing("FsyncSlow", victim)

    def slow_disk_shows() -> bool:
        asyncio.run(work(network))
        return slow in network.firing(or_pending=True)

    eventually("a slow disk", slow_disk_shows)
    cluster.kill(victim)
    cluster.kill(_WORKER)
    dead = frozenset({Firing("NodeDown", victim), Firing("NodeDown", _WORKER)})

    eventually(
        "silence of what follows",
        lambda: (
            {one.firing: one.silenced_by for one in told.alerts()}.get(slow)
            == frozenset({Firing("NodeDown", victim)})
        ),
    )
    assert told.told() >= {*dead, Firing("QuorumAtRisk")}
    ticket = Notification("duty", "firing", dead, frozenset())
    page = Notification("pager", "firing", frozenset({Firing("QuorumAtRisk")}), frozenset())
    eventually("ticket and page", lambda: inbox.got("NodeDown") and inbox.got("QuorumAtRisk"))
    eventually("the end of the rates", lambda: slow not in {one.firing for one in told.alerts()})
    assert (inbox.got("NodeDown"), inbox.got("QuorumAtRisk")) == ([ticket], [page])

    for member in (victim, _WORKER):
        cluster.start(member)
        network.network.wait_until_ready(member)
    eventually("nothing left", lambda: {one for one in told.told() if one.name not in OF_THE_MACHINE} == set())
    eventually("ticket closed", lambda: inbox.got("NodeDown")[-1].status == "resolved")
    eventually("page closed", lambda: inbox.got("QuorumAtRisk")[-1].status == "resolved")
    assert inbox.got(slow.name) == []


async def work(network: Watched) -> None:
    """Something for every disk to sync."""
    async with network.network.client() as client:
        await submit(client, submission())
