"""The filters with which playbooks and templates write addresses."""

import importlib.util

import pytest

from tests.unit.deploy.programs import PROJECT

_SPEC = importlib.util.spec_from_file_location("zkp_address", PROJECT / "ansible/filter_plugins/zkp_address.py")
assert _SPEC is not None
assert _SPEC.loader is not None
plugin = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(plugin)


@pytest.mark.parametrize(
    ("host", "written"),
    [
        ("192.168.1.10", "192.168.1.10:7000"),
        ("fd00:5::11", "[fd00:5::11]:7000"),
        ("::", "[::]:7000"),
        ("db.zkp.local", "db.zkp.local:7000"),
    ],
)
def test_an_address_with_its_port(host: str, written: str) -> None:
    """An IPv6 address is in brackets."""
    assert plugin.endpoint(host, 7000) == written


def test_one_address_or_several() -> None:
    """An inventory may name one, as text."""
    assert plugin.endpoints("fd00::1", "443") == ["[fd00::1]:443"]
    assert plugin.endpoints(["10.0.0.1", "fd00::1"], 443) == ["10.0.0.1:443", "[fd00::1]:443"]


def test_networks_of_addresses() -> None:
    """The /24 and /64 of each, once, and nothing of names."""
    hosts = ["fd00:5::11", "192.168.1.11", "192.168.1.12", "10.0.0.1", "FD00:5:0:0:1::", "db.zkp.local", "fd00:6::1"]
    assert plugin.networks_of(hosts) == ["10.0.0.0/24", "192.168.1.0/24", "fd00:5::/64", "fd00:6::/64"]


def test_the_filters_are_published() -> None:
    """By names that no other collection has."""
    assert set(plugin.FilterModule().filters()) == {"zkp_endpoint", "zkp_endpoints", "zkp_networks_of"}
