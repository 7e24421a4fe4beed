"""A machine breaks: the others are deployed on without it, and a bare one takes its place."""

import json
from typing import Any

import pytest

from tests.hosts.deployment import Deployment
from tests.hosts.test_outages import completed

_MEMBERSHIP = "head -n 1 /var/lib/zkp/coordinator/membership"


@pytest.mark.slow
def test_a_machine_that_broke_is_left_out_and_then_replaced(network: Deployment) -> None:
    """With --limit nothing waits for it; the new one gets a key of its own and a vote in the same cluster."""
    broken = network.members["host-3"]
    before, key, tasks = membership(network, "host-3"), _key(network), network.submit(5)
    broken.power_off()
    try:
        left = network.play("site.yml", "--limit", f"!{broken.name}").demand_success()
        assert left.changed == []
        network.prove()
    finally:
        network.fleet.replace(broken.name)

    network.play().demand_success()

    network.wait_until_well()
    assert membership(network, "host-3") == before
    assert _key(network) != key
    completed(network, tasks)
    network.prove()
    assert network.play().demand_success().changed == []


def membership(network: Deployment, name: str) -> dict[str, Any]:
    """Which cluster the coordinator on a host is in, and as what."""
    return dict(json.loads(network.members[name].run(_MEMBERSHIP)))


def _key(network: Deployment) -> str:
    """Of the machine that is host-3."""
    return network.members["host-3"].run("sha256sum /etc/zkp/pki/coordinator/key.pem")
