"""Inventories that could not work are refused before anything changes, each with its cure."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration.deploy.playbooks import inventory, part, play

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
