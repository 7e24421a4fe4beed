"""Inventories: certificates derived from Ansible YAML."""

from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pki.ca.specification import CertificateSpec
from pki.checks.inventory import parse_inventory, read_inventory
from pki.errors import InventoryError
from pki.x509.identity import Role

THREE_HOSTS = """
all:
  vars: {ansible_user: admin}
  children:
    coordinators:
      hosts:
        coordinator-1: {ansible_host: 192.168.1.10, pki_hosts: [node1.zkp.example]}
        coordinator-2: {ansible_host: 192.168.1.11}
    database:
      vars: {pki_role: postgres}
      hosts:
        coordinator-1:
    loadbalancer:
      hosts:
        coordinator-2:
    workers:
      vars: {pki_hosts: localhost}
      children:
        big: {hosts: {node7.zkp.example: }}
        small: {hosts: {worker-1: {ansible_host: "fd00::1"}}}
    monitoring:
      hosts:
        mon: {pki_role: prometheus, pki_names: {prometheus: prometheus-1}, secret: !vault "x"}
"""


def test_groups_hosts_and_variables_become_orders() -> None:
    """One inventory shows every rule: roles by group and variable, names, addresses, groups in groups."""
    assert set(parse_inventory(THREE_HOSTS)) == {
        CertificateSpec("coordinator-1", Role.COORDINATOR, ("192.168.1.10", "node1.zkp.example")),
        CertificateSpec("postgres-coordinator-1", Role.POSTGRES, ("192.168.1.10", "node1.zkp.example")),
        CertificateSpec("coordinator-2", Role.COORDINATOR, ("192.168.1.11",)),
        CertificateSpec("worker-node7", Role.WORKER, ("node7.zkp.example", "localhost")),
        CertificateSpec("worker-1", Role.WORKER, ("fd00::1", "localhost")),
        CertificateSpec("prometheus-1", Role.PROMETHEUS, ()),
    }


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("ending", ["", "s"])
def test_groups_named_after_a_role_have_it(role: Role, ending: str) -> None:
    """Singular and plural alike."""
    [order] = parse_inventory(f"{role}{ending}: {{hosts: {{h: {{ansible_host: localhost}}}}}}")
    assert (order.role, order.name) == (role, f"{role}-h")


def test_a_second_role_renames_nobody() -> None:
    """A host that becomes a gateway, too, keeps the name it has as a worker."""
    one = parse_inventory("workers: {hosts: {node1: }}")
    two = parse_inventory("workers: {hosts: {node1: }}\ngateways: {hosts: {node1: {pki_hosts: localhost}}}")
    assert one[0].name == two[0].name
    assert [order.name for order in two] == ["worker-node1", "gateway-node1"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no host has a role"),
        ("web: {hosts: {a: }}", "no host has a role"),
        ("- a", "the inventory is list"),
        ("workers: {host: {a: }}", "group workers has host: a group has hosts, children and vars"),
        ("workers: {hosts: [a, b]}", "hosts of workers is list"),
        ("workers: {hosts: {a: 5}}", "host a is int"),
        ("workers: {hosts: {'w[1:9]': }}", "is a range: write each host by itself"),
        ("workers: {hosts: {10.0.0.1: }}", "is an address: name the host, for example pki_names"),
        ("workers: {hosts: {a: {ansible_host: '{{ ip }}'}}}", "host a: host '{{ ip }}'"),
        ("workers: {hosts: {a_b: }}", "host a_b: name 'worker-a_b'"),
        ("x: {vars: {pki_role: king}, hosts: {a: }}", "group x: king is not a role; known roles: coordinator"),
        ("x: {hosts: {a: {pki_role: king}}}", "host a: king is not a role"),
        ("workers: {hosts: {a: {pki_names: {gateway: g}}}}", "which is not a role of this host"),
        ("workers: {hosts: {a: , a.x: }}", "worker-a would be two identities"),
        ("workers: {hosts: {a: , a: }}", "a is duplicated"),
        ("gateways: {hosts: {a: }}", "host a is a gateway, which others dial: give it an ansible_host or pki_hosts"),
        ("workers: {hosts: {a: {}", "no YAML"),
        ("a: 2026-99-99", "no YAML"),
    ],
)
def test_what_is_no_inventory_is_one_line(text: str, reason: str) -> None:
    """Every mistake names its place and says what to write."""
    with pytest.raises(InventoryError) as caught:
        parse_inventory(text)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_is_named(tmp_path: Path) -> None:
    """A missing file, another encoding and a wrong content all begin with the path."""
    with pytest.raises(InventoryError, match=r"hosts\.yml: No such file"):
        read_inventory(tmp_path / "hosts.yml")
    (tmp_path / "hosts.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InventoryError, match=r"hosts\.yml: it is not UTF-8"):
        read_inventory(tmp_path / "hosts.yml")
    (tmp_path / "hosts.yml").write_text("- a")
    with pytest.raises(InventoryError, match=r"hosts\.yml: the inventory is list"):
        read_inventory(tmp_path / "hosts.yml")


_scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
_keys = st.sampled_from(["hosts", "children", "vars", "workers", "pki_role", "pki_names", "pki_hosts", "a"])
_documents = st.recursive(
    _scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4), max_leaves=12
)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(_documents | st.text(max_size=60))
@example({"workers": {"hosts": {"a": {"pki_names": []}}}})
def test_any_document_is_an_inventory_or_one_line(document: object) -> None:
    """No YAML breaks the reader."""
    text = document if isinstance(document, str) else yaml.safe_dump(document)
    try:
        assert parse_inventory(text)
    except InventoryError as error:
        assert "\n" not in str(error)  # noqa: PT017  # a refusal is one outcome of two
