"""What preflight says of an inventory's names, addresses and configurations: the program that judges them."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pki.ca.authority import Authority
from pki.store.store import AuthorityStore
from pki.x509.name_constraints import parse_network
from tests.unit.deploy.programs import PROJECT, program

judge = program("common", "check_inventory")


def host(address: str, name: str = "host-1", **changes: Any) -> dict[str, Any]:
    """A coordinator as common_members describes it."""
    ids = {
        "coordinator": f"coordinator-{name.partition('.')[0]}",
        "prometheus": f"prometheus-{name.partition('.')[0]}",
    }
    return {"address": address, "more_addresses": [], "names": [], "ids": ids, "chosen": {}} | changes


def faults(hosts: dict[str, dict[str, Any]], **changes: Any) -> list[str]:
    """Those of an inventory whose authority does not exist yet."""
    networks = ["192.168.1.0/24", "fd00:5::/64"]
    said = {"trust_domain": "zkp.local", "domains": [], "networks": networks, "authority": "/nowhere", "hosts": hosts}
    return list(judge.faults(said | changes))


@pytest.mark.parametrize("address", ["192.168.1.11", "fd00:5::11", "FD00:5:0:0::11", "db.zkp.local", "DB.zkp.local"])
def test_a_good_host_passes(address: str) -> None:
    """IPv4, IPv6 in any spelling, and names below the trust domain."""
    assert faults({"host-1": host(address)}) == []


@pytest.mark.parametrize("name", ["host_1", "Host-1", "host-", "h" * 52, "höst", "host 1", "_", "host_1.zkp.local"])
def test_a_name_from_which_no_id_can_be_made_is_refused(name: str) -> None:
    """The refusal names the host and the cure."""
    (fault,) = faults({name: host("192.168.1.11", name)})
    assert fault.startswith(f"{name}: coordinator id ")
    assert fault.endswith("rename the host in the inventory, or set pki_names for it")


@pytest.mark.parametrize("name", ["192.168.1.11", "fd00:5::11", "::1"])
def test_a_bare_address_as_a_name_is_refused(name: str) -> None:
    """An inventory of bare addresses would give its hosts ids such as coordinator-192."""
    (fault,) = faults({name: host("192.168.1.11", name)})
    assert f"`host-1: {{ansible_host: {name}}}`" in fault


def test_a_bare_address_whose_ids_are_chosen_passes() -> None:
    """As `pki issue --inventory` has it: pki_names says what the host is called."""
    ids = {"coordinator": "coordinator-1", "prometheus": "prometheus-1"}
    assert faults({"192.168.1.11": host("192.168.1.11", ids=ids, chosen=ids)}) == []


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("host_1.zkp.local", "not a DNS name"),
        ("host-1.zkp.local.", "final dot"),
        ("192.168.1.11:7000", "no port"),
        ("192.168.1", "not an IP address"),
        ("192.168.1.256", "not an IP address"),
        ("fd00:5::11:7000:9090:1:2:3:4", "not an IP address"),
        ("[fd00:5::11]", "is in brackets"),
        ("fe80::1", "link-local"),
        ("fe80::1%eth0", "link-local"),
        ("169.254.1.1", "link-local"),
        ("ff02::1", "multicast"),
        ("::ffff:192.168.1.11", "write 192.168.1.11"),
        ("::", "reach itself"),
        ("0.0.0.0", "reach itself"),  # noqa: S104  # refused, not bound
        ("::1", "reach itself"),
        ("127.1.2.3", "reach itself"),
        ("LOCALHOST.", "reach itself"),
        ("", "not an IP address"),
    ],
)
def test_an_address_that_others_cannot_dial_is_refused(address: str, what: str) -> None:
    """The refusal names the host, the address, what is wrong, and the variables to correct."""
    (fault,) = faults({"host-1": host(address)})
    assert fault.startswith(f"host-1: address {address} ")
    assert what in fault
    assert fault.endswith("set ansible_host or zkp_address to the address that others dial")


def test_further_addresses_and_names_are_judged_too() -> None:
    """zkp_more_addresses holds addresses alone; the names are those that a certificate can carry."""
    found = faults({"host-1": host("192.168.1.11", more_addresses=["fe80::1", "name"], names=["a_b.zkp.local"])})
    assert [fault.rpartition("; ")[2] for fault in found] == [
        "correct zkp_more_addresses",
        "correct zkp_more_addresses",
        "correct pki_hosts or zkp_loadbalancer_address",
        "set an address, or add its domain to pki_domains",
    ]


def test_one_address_in_two_spellings_is_one_address() -> None:
    """Two hosts with one IPv6 address are found however it is written."""
    hosts = {
        "host-1": host("192.168.1.11", more_addresses=["fd00:5::b"]),
        "host-2": host("FD00:5:0:0::000b", "host-2"),
    }
    assert faults(hosts) == [
        "host-1 and host-2: have the same address FD00:5:0:0::000b; correct ansible_host of one of them"
    ]


def test_one_id_belongs_to_one_host_and_one_role() -> None:
    """An id names one certificate."""
    ids = {"coordinator": "coordinator-host-1", "worker": "prometheus-host-1"}
    found = faults({"host-1": host("192.168.1.11"), "host-2": host("192.168.1.12", ids=ids)})
    assert len(found) == 2
    assert "host-1 and host-2: have the same coordinator id coordinator-host-1" in found[0]
    assert "the worker id prometheus-host-1 is also the prometheus id of host-1" in found[1]


def test_what_a_new_authority_would_not_certify_is_refused() -> None:
    """Addresses outside zkp_networks, and names outside every domain."""
    hosts = {"host-1": host("10.0.0.1"), "host-2": host("fd00:6::1", "host-2"), "host-3": host("host-3", "host-3")}
    found = faults(hosts)
    assert ["zkp_networks" in fault for fault in found] == [True, True, False]
    assert (
        found[2] == "host-3: host-3 is not below zkp_trust_domain; set an address, or add its domain to pki_domains"
    )
    assert faults(hosts, domains=["host-3"], networks=["10.0.0.0/8", "fd00::/16"]) == []


@pytest.mark.parametrize(
    "changes", [{"networks": ["192.168.1.1/24"]}, {"trust_domain": "Zkp.local"}, {"domains": ["1.2.3.4"]}]
)
def test_what_pki_would_not_take_is_refused_in_its_words(changes: dict[str, Any]) -> None:
    """The trust domain, the domains and the networks are read as `pki init` reads them."""
    found = faults({"host-1": host("192.168.1.11")}, **changes)
    assert any(fault.startswith("the inventory: ") for fault in found)


def test_what_the_existing_authority_does_not_certify_is_refused(tmp_path: Path) -> None:
    """With the command that permits it; the inventory's own networks do not count any more."""
    now = datetime.now(UTC)
    authority = Authority.create("zkp.local", now=now, networks=[parse_network("192.168.1.0/24")])
    AuthorityStore.create(tmp_path / "authority", authority, passphrase=None, now=now, by="test")

    hosts = {"host-1": host("192.168.1.11"), "host-2": host("fd00:5::11", "host-2")}
    (fault,) = faults(hosts, authority=str(tmp_path / "authority"))
    assert fault.startswith("host-2: host fd00:5::11 is outside this authority's networks")
    assert "pki rotate-issuer --network" in fault
    (fault,) = faults(
        {"host-1": host("192.168.1.11")}, authority=str(tmp_path / "authority"), trust_domain="other.test"
    )
    assert "correct zkp_trust_domain" in fault


def test_the_shipped_configurations_pass() -> None:
    """What is rendered for the prod inventory is judged good."""
    told = {path.stem: {path.stem.partition("-")[0]: path.read_text("utf-8")} for path in _PROD}
    assert list(judge.faults({"configurations": told})) == []


_PROD = sorted((PROJECT / "configs/prod").glob("*.yaml"))


@pytest.mark.parametrize(
    ("good", "bad", "what"),
    [
        (
            'advertise: "192.168.1.10:7000"',
            "advertise: fd00:5::11:7000",
            "raft.advertise: has an IPv6 address without",
        ),
        ('advertise: "192.168.1.10:9090"', 'advertise: "[::]:9090"', "grpc.advertise: [::]:9090 is a wildcard"),
        ("id: coordinator-1 ", "id: coordinator_1 ", "node.id: is not a valid name"),
        ("election_timeout: 250ms", "election_timeout: 60ms", "raft.heartbeat"),
        ('host: "192.168.1.10"', 'host: "a b"', "database"),
    ],
)
def test_a_configuration_that_its_daemon_refuses_is_refused(good: str, bad: str, what: str) -> None:
    """By the daemon's own schema, with the host and the key."""
    text = _PROD[0].read_text("utf-8")
    assert good in text
    (fault,) = judge.faults({"configurations": {"host-1": {"coordinator": text.replace(good, bad, 1)}}})
    assert fault.startswith("host-1: coordinator.yaml")
    assert what in fault
