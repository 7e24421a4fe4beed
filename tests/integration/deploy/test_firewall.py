"""The rules of the firewall for hosts that are dialled by addresses of IPv4 and IPv6, and by names."""

import re
import socket
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.integration.deploy.playbooks import ANSIBLE, inventory, part, play

_NAMES = ("host-1", "host-2", "host-3")


def _groups(names: tuple[str, ...]) -> dict[str, list[str]]:
    groups = {group: [*names] for group in ("coordinators", "workers", "gateways")}
    return groups | {group: [names[0]] for group in ("database", "loadbalancer", "monitoring")}


def _rules(place: Path, hosts: dict[str, dict[str, Any]]) -> str:
    """Those of host-1."""
    path, out = place / "rules.yml", place / "nftables.conf"
    template = f"{{{{ lookup('ansible.builtin.template', '{ANSIBLE}/roles/firewall/templates/nftables.conf.j2') }}}}"
    role = {"name": "firewall", "tasks_from": "preflight.yml", "public": True}
    tasks = [
        {"ansible.builtin.include_role": role},
        {"ansible.builtin.copy": {"content": template, "dest": str(out), "mode": "0600"}},
    ]
    variables = {"ansible_python_interpreter": sys.executable}
    one = {"hosts": "host-1", "connection": "local", "gather_facts": False, "vars": variables, "tasks": tasks}
    path.write_text(yaml.safe_dump([one]), "utf-8")
    code, said = play(path, inventory(place, hosts, **_groups(_NAMES)), place)
    assert code == 0, said
    return out.read_text("utf-8")


def test_hosts_are_let_in_by_every_address(tmp_path: Path) -> None:
    """A host of two versions of IP by both, and one that is dialled by a name by what the name stands for."""
    hosts: dict[str, dict[str, Any]] = {
        "host-1": {"ansible_host": "192.168.1.11", "zkp_more_addresses": ["fd00:5::11"]},
        "host-2": {"ansible_host": "fd00:5::12"},
        "host-3": {"ansible_host": "localhost"},
    }
    rules = _rules(tmp_path, hosts)

    raft = re.findall(r"(ip6?) saddr \{ (.*) \} tcp dport 7000 accept", rules)
    known = {(version, address) for version, addresses in raft for address in addresses.split(", ")}
    named = {str(found[4][0]) for found in socket.getaddrinfo("localhost", None)}
    wanted = {"192.168.1.11", "fd00:5::11", "fd00:5::12"} | named
    assert known == {("ip6" if ":" in address else "ip", address) for address in wanted}


def test_a_name_that_a_host_does_not_know_is_refused(tmp_path: Path) -> None:
    """Before there are rules that could not be loaded; the refusal says which host, which name, and the cure."""
    hosts: dict[str, dict[str, Any]] = {name: {"ansible_host": f"{name}.invalid"} for name in _NAMES}
    code, said = play(
        part(tmp_path, "firewall", "preflight.yml"), inventory(tmp_path, hosts, **_groups(_NAMES)), tmp_path
    )
    assert code != 0
    assert "cannot resolve host-1.invalid, host-2.invalid, host-3.invalid; correct its DNS" in " ".join(said.split())
