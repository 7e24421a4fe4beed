"""Who may come in is a matter of the inventory: a change of mind opens just what it says, and closes it again."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.hosts.deployment import HOSTS, Deployment

_ALWAYS = {("host-2", 9443), ("host-2", 443)}
"""The load balancer, for gRPC and HTTPS."""
_DIRECTLY = {(name, port) for name in HOSTS for port in (9090, 8443)}
"""gRPC of the coordinators, HTTPS of the gateways."""
_NEVER = {(name, port) for name in HOSTS for port in (7000, 8090, 9091, 9092, 9093, 9100)} | {("host-1", 5432)}
"""What members of the network and operators alone may dial."""
_MOMENT = "Have the new rules undone unless they prove good"
_PATIENCE_S = 3.0


@pytest.fixture
def network_of_others(network: Deployment) -> Iterator[Deployment]:
    """The network, to which this machine is a client like any other, and not its operator's."""
    variables = dict(network.variables)
    network.variables["firewall_admin_networks"] = []
    yield network
    network.variables = variables
    network.play("site.yml", "--tags", "firewall").demand_success()


@pytest.mark.slow
def test_clients_come_directly_only_where_that_is_wanted(network_of_others: Deployment) -> None:
    """They dial the load balancer alone, and coordinators and gateways while it is set; nothing else, ever."""
    network, before = network_of_others, network_of_others.running_since()

    network.play("site.yml", "--tags", "firewall").demand_success()
    assert answering(network) == _ALWAYS

    network.play("site.yml", "--tags", "firewall", firewall_clients_come_directly=True).demand_success()
    assert answering(network) == _ALWAYS | _DIRECTLY
    assert network.prove(through="coordinators")["proof"]

    on_the_command_line = "firewall_clients_come_directly=no"  # where everything is text
    network.play("site.yml", "--tags", "firewall", "--extra-vars", on_the_command_line).demand_success()
    assert answering(network) == _ALWAYS
    assert network.running_since() == before


@pytest.mark.slow
def test_rules_that_a_killed_run_has_not_proved_good_are_proved_by_the_next(network_of_others: Deployment) -> None:
    """Nothing is left that would undo them some seconds after a run that was content with them."""
    network = network_of_others
    run = network.begin("site.yml", "--tags", "firewall", firewall_clients_come_directly=True)
    while run.running and not any(step.task.endswith(_MOMENT) for step in run.steps):
        time.sleep(0.05)
    assert run.running
    run.kill()

    network.play("site.yml", "--tags", "firewall", firewall_clients_come_directly=True).demand_success()

    for host in network.members.values():
        assert host.run("systemctl is-active zkp-firewall-rollback.timer || true").strip() == "inactive"
    assert answering(network) == _ALWAYS | _DIRECTLY


def answering(network: Deployment) -> set[tuple[str, int]]:
    """The ports, of all that are named here, that take connections from this machine."""

    def answers(place: tuple[str, int]) -> bool:
        name, port = place
        with suppress(OSError), socket.create_connection((network.members[name].address, port), _PATIENCE_S):
            return True
        return False

    places = sorted(_ALWAYS | _DIRECTLY | _NEVER)
    with ThreadPoolExecutor(len(places)) as dialling:
        return {place for place, answered in zip(places, dialling.map(answers, places), strict=True) if answered}
