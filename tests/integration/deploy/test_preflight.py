"""Inventories that could not work are refused before anything changes, each with its cure."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from pki.ca.authority import Authority
from pki.store.store import AuthorityStore
from pki.x509.name_constraints import parse_network
from tests.integration.deploy.playbooks import ANSIBLE, inventory, part, play

THREE: dict[str, dict[str, Any]] = {
    f"coordinator-{number}": {"ansible_host": f"192.168.1.{number}"} for number in (1, 2, 3)
}
NAMES = list(THREE)


def _groups(**changes: list[str]) -> dict[str, list[str]]:
    groups = {"coordinators": NAMES, "workers": NAMES, "gateways": NAMES[:1], "database": NAMES[:1]}
    return {group: members for group, members in (groups | changes).items() if members}


def _refusal(place: Path, hosts: dict[str, dict[str, Any]], groups: dict[str, list[str]]) -> str:
    code, said = play(part(place, "common", "preflight_inventory.yml"), inventory(place, hosts, **groups), place)
    assert code != 0, said
    return " ".join(said.split())


def test_good(tmp_path: Path) -> None:
    """Three coordinators with names and addresses of their own are taken."""
    code, said = play(
        part(tmp_path, "common", "preflight_inventory.yml"), inventory(tmp_path, THREE, **_groups()), tmp_path
    )
    assert code == 0, said


def test_shared_variables_are_defined(tmp_path: Path) -> None:
    """Links to the shared files define every variable that the roles share."""
    code, said = play(
        part(tmp_path, "common", "preflight_shared.yml"), inventory(tmp_path, THREE, **_groups()), tmp_path
    )
    assert code == 0, said


@pytest.mark.parametrize(
    ("link", "name"), [("00-shared.yml", "zkp_addresses"), ("01-shared-infrastructure.yml", "zkp_postgres_id")]
)
def test_a_shared_file_from_an_earlier_release(tmp_path: Path, link: str, name: str) -> None:
    """A copy that lacks a variable of this release is rejected with the variable and the command that links it."""
    place = inventory(tmp_path, THREE, **_groups())
    shipped = (place / link).resolve()
    copy = yaml.safe_load(shipped.read_text("utf-8"))
    del copy["all"]["vars"][name]
    (place / link).unlink()
    (place / link).write_text(yaml.safe_dump(copy), "utf-8")
    code, said = play(part(tmp_path, "common", "preflight_shared.yml"), place, tmp_path)
    assert code != 0
    assert f"The inventory does not define {name}: it lacks {link}" in " ".join(said.split())
    assert f"ln -sfn {shipped} {link}" in " ".join(said.split())


def test_even_number(tmp_path: Path) -> None:
    """An even number of coordinators is refused."""
    assert "take three or five" in _refusal(tmp_path, THREE, _groups(coordinators=NAMES[:2]))


def test_one_id(tmp_path: Path) -> None:
    """Two hosts that would be the same node are refused."""
    hosts = THREE | {"coordinator-2": THREE["coordinator-2"] | {"pki_names": {"coordinator": "coordinator-1"}}}
    assert "have the same coordinator id" in _refusal(tmp_path, hosts, _groups())


def test_one_address(tmp_path: Path) -> None:
    """Two hosts with one address are refused."""
    hosts = THREE | {"coordinator-2": THREE["coordinator-1"]}
    assert "correct ansible_host" in _refusal(tmp_path, hosts, _groups())


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", "localhost", "0.0.0.0", "::1"])  # noqa: S104  # refused, not bound
def test_loopback(tmp_path: Path, address: str) -> None:
    """An address at which every host reaches itself is refused."""
    hosts = THREE | {"coordinator-2": {"ansible_host": "192.168.1.2", "zkp_address": address}}
    assert "to the address that others dial" in _refusal(tmp_path, hosts, _groups())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("host_1", "host_1: coordinator id 'coordinator-host_1', worker id 'worker-host_1'"),
        ("Host-1.zkp.local", "Host-1.zkp.local: coordinator id 'coordinator-Host-1'"),
        ("192.168.1.1", "192.168.1.1: the name of the host is an address"),
        ("fd00:5::11", "fd00:5::11: the name of the host is an address"),
        (
            "host-1.zkp.local.",
            "host-1.zkp.local.: address host-1.zkp.local. is not an IP address",
        ),
    ],
)
def test_a_name_that_could_not_work(tmp_path: Path, name: str, said: str) -> None:
    """Names that no certificate can carry, and bare addresses, are refused by name and with the cure."""
    names = [name, *NAMES[1:]]
    hosts: dict[str, dict[str, Any]] = {name: {}} | {other: THREE[other] for other in NAMES[1:]}
    groups = _groups(coordinators=names, workers=names, gateways=names[:1], database=names[:1])
    if not name.endswith("."):
        hosts[name] = {"ansible_host": "192.168.1.1"}
    assert said in _refusal(tmp_path, hosts, groups)


def test_ipv6(tmp_path: Path) -> None:
    """Hosts of IPv6 alone, of both versions, and names are taken; the authority gets their networks."""
    hosts: dict[str, dict[str, Any]] = {
        "coordinator-1": {"ansible_host": "fd00:5::11"},
        "coordinator-2": {"ansible_host": "192.168.1.2", "zkp_more_addresses": ["fd00:5::12"]},
        "coordinator-3": {"ansible_host": "node-3.zkp.local"},
    }
    code, said = play(
        part(tmp_path, "common", "preflight_inventory.yml"), inventory(tmp_path, hosts, **_groups()), tmp_path
    )
    assert code == 0, said


def test_an_address_outside_the_authority(tmp_path: Path) -> None:
    """The authority that exists decides, whatever the inventory's networks are."""
    now = datetime.now(UTC)
    authority = Authority.create("zkp.local", now=now, networks=[parse_network("192.168.1.0/24")])
    AuthorityStore.create(tmp_path / ".authority", authority, passphrase=None, now=now, by="test")
    hosts = THREE | {"coordinator-2": {"ansible_host": "fd00:5::11"}}
    said = _refusal(tmp_path, hosts, _groups())
    assert "coordinator-2: host fd00:5::11 is outside this authority's networks" in said


def test_a_configuration_that_its_daemon_refuses(tmp_path: Path) -> None:
    """What the roles have rendered is read as the daemon reads it."""
    told = (ANSIBLE.parent / "configs/prod/coordinator-2.yaml").read_text("utf-8")
    bad = told.replace('advertise: "192.168.1.11:7000"', "advertise: fd00:5::11:7000")
    hosts = {name: variables | {"coordinator_told": told} for name, variables in THREE.items()}
    hosts["coordinator-2"]["coordinator_told"] = bad
    code, said = play(
        part(tmp_path, "common", "preflight_configurations.yml"), inventory(tmp_path, hosts, **_groups()), tmp_path
    )
    assert code != 0
    assert "coordinator-2: coordinator.yaml:16: raft.advertise: has an IPv6 address without brackets" in " ".join(
        said.split()
    )


@pytest.mark.parametrize(("missing", "cure"), [("workers", "put at least one"), ("database", "zkp_database_host")])
def test_missing_group(tmp_path: Path, missing: str, cure: str) -> None:
    """A network that lacks a part of itself is refused."""
    assert cure in _refusal(tmp_path, THREE, _groups(**{missing: []}))


@pytest.mark.parametrize("secret", ["<a long passphrase of your own>", "changeme-please", "password12345", "4short"])
def test_placeholder(tmp_path: Path, secret: str) -> None:
    """A passphrase that was never chosen is refused, and not shown."""
    code, said = play(
        part(tmp_path, "pki", "preflight.yml"),
        inventory(tmp_path, THREE, **_groups()),
        tmp_path,
        *("-e", f"{{pki_passphrase: '{secret}'}}"),
    )
    assert code != 0
    assert secret not in said
    assert "placeholder" in said


def test_example_vault_is_refused() -> None:
    """The vault example as it is shipped holds nothing that preflight would take."""
    path = Path(__file__).resolve().parents[3] / "ansible/inventories/prod/group_vars/all/vault.yml.example"
    assert "pki_passphrase: <" in path.read_text("utf-8")
