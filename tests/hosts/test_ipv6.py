"""Networks whose hosts have IPv6: instead of IPv4, and beside it."""

import json
import os
import re
from collections.abc import Iterator

import pytest

from tests.hosts.commands import run
from tests.hosts.deployment import HOSTS, Deployment, everywhere
from tests.hosts.errors import HostsError
from tests.hosts.fleet import Fleet
from tests.hosts.test_site import report
from zkp.daemon.settings import Address

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=[(6,), (4, 6)], ids=["IPv6 alone", "both versions"])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """Three hosts, deployed with one command. Those of IPv6 alone have no IPv4 address but loopback's."""
    try:
        fleet = Fleet.create(f"ipv6-{os.getpid()}-{len(request.param)}", HOSTS, versions=request.param)
    except HostsError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        made = Deployment(fleet, tmp_path_factory.mktemp("ipv6"))
        report(made.play().demand_success(), "first")
        made.wait_until_well()
        yield made
    finally:
        fleet.destroy()


def test_a_proof_goes_through_every_address_of_the_load_balancer(network: Deployment) -> None:
    """By gRPC and by HTTPS; the proof is verified by the client."""
    balancer = network.members["host-2"]
    identity = network.directory / "identities/client"
    tls = ("--cert", "certificate.pem"), ("--key", "key.pem"), ("--cacert", "ca.pem")
    files = [word for flag, file in tls for word in (flag, str(identity / file))]
    for address in (balancer.address, *balancer.more_addresses):
        assert network.prove(through=str(Address(address, 9443)))["proof"]
        url = f"https://{Address(address, 443)}/api/v1/tasks/addition"
        task = json.loads(run("curl", "--silent", "--fail-with-body", *files, "--json", '{"a": "2", "b": "40"}', url))
        assert re.fullmatch(r"[0-9a-f]{32}", task["id"])


def test_every_coordinator_is_reached_directly(network: Deployment) -> None:
    """Also by an operator who names their addresses."""
    assert network.prove(through="coordinators")["proof"]


def test_daemons_listen_by_both_versions(network: Deployment) -> None:
    """On hosts of IPv6 alone, too: an IPv4 address that comes later needs no change."""
    for name, shown in everywhere(list(network.members.values()), "ss -Hltn").items():
        bound = {line.split()[3] for line in shown.splitlines()}
        assert {f"*:{port}" for port in (7000, 9090, 8090, 9091, 9092, 8443, 9093)} <= bound, name


def test_a_second_run_changes_nothing(network: Deployment) -> None:
    """On no host, and no daemon notices."""
    before = network.running_since()
    again = network.play().demand_success()
    report(again, "second")
    assert again.changed == []
    assert network.running_since() == before


def test_verification_finds_no_fault(network: Deployment) -> None:
    """verify.yml dials every address of every host."""
    assert network.play("verify.yml").demand_success().changed == []
