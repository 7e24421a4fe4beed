"""A network that uses IPv6 only: coordinators, workers, gateway and clients."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cluster.network import WAIT_TIMEOUT_S, Network, running
from tests.integration.cluster.work import check_proofs, check_recorded_once, finished, submission, submit
from zkp.cli.target import ClusterTarget
from zkp.client.tasks import TaskClient
from zkp.localcluster import configuration, setup
from zkp.localcluster.layout import CLIENT, COORDINATORS, GATEWAY

_DAEMONS = (*COORDINATORS, "worker-1", "worker-2", GATEWAY)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Network]:
    """A network whose addresses are all ::1, in configurations and certificates."""
    with pytest.MonkeyPatch.context() as product:
        product.setattr(configuration, "_at", "[::1]:{}".format)
        product.setattr(setup, "_HOSTS", ("::1",))
        with running(tmp_path_factory.mktemp("ipv6"), keys) as made:
            yield made


async def test_tasks_survive_their_leader(network: Network, keys: Path) -> None:
    """Peers, workers, clients and redirects use IPv6 addresses, across a failover."""
    async with network.client() as client:
        ids = await submit(client, *(submission() for _ in range(5)))
        before = await asyncio.to_thread(network.leader)
        await asyncio.to_thread(network.cluster.kill, before.id)
        await asyncio.to_thread(network.cluster.wait_for_leader, WAIT_TIMEOUT_S, other_than=before)
        ids += await submit(client, *(submission() for _ in range(5)))
        tasks = await finished(client, ids)
    check_proofs(keys, tasks)
    check_recorded_once(network, tasks)
    network.cluster.up()
    network.agreed()


async def test_every_spelling_of_an_address_reaches_its_coordinator(network: Network) -> None:
    """The client library normalizes addresses, since gRPC compares them with the certificate as text."""
    spelt = ",".join(address.replace("[::1]", "[0:0::0001]") for address in network.cluster.profile.coordinators)
    target = ClusterTarget(tuple(spelt.split(",")), network.layout.identity(CLIENT))
    async with target.connect() as connection:
        client = TaskClient(connection, timeout=WAIT_TIMEOUT_S)
        await finished(client, await submit(client, submission()))


def test_the_gateway_serves(network: Network) -> None:
    """A task is submitted and proved through the gateway."""
    with network.unmoved():
        pass


def test_nothing_uses_ipv4(network: Network) -> None:
    """No daemon has an IPv4 socket."""
    for name in _DAEMONS:
        connections = network.process(name).net_connections("inet")
        assert {end.ip for one in connections for end in (one.laddr, one.raddr) if end} == {"::1"}, name
