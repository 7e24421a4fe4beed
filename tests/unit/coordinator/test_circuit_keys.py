"""This node's verifying keys against the cluster's."""

import logging

import pytest

from coordinator.services.circuit_keys import CircuitKeys
from tests.unit.coordinator.fakes import KEY, LocalReplicator

OTHER = "cd" * 32


async def test_the_first_leader_pins_its_keys_and_later_ones_keep_to_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A node with another key says so loudly and does not serve that circuit; the pin stays."""
    replicator = LocalReplicator()
    replicator.elect()
    first = CircuitKeys({"addition": KEY}, replicator)
    assert not first.serves("addition")
    await first.register()
    assert first.serves("addition")
    with caplog.at_level(logging.CRITICAL):
        second = CircuitKeys({"addition": OTHER, "range_proof": OTHER}, replicator)
        await second.register()
    assert not second.serves("addition")
    assert second.serves("range_proof")
    assert not first.serves("range_proof")
    assert second.pin("addition") == KEY
    assert "addition is not served" in caplog.text
    assert "range_proof is not served" not in caplog.text


async def test_a_leader_with_nothing_to_add_proposes_nothing() -> None:
    """Each election would else write an entry."""
    replicator = LocalReplicator()
    replicator.elect()
    keys = CircuitKeys({"addition": KEY}, replicator)
    await keys.register()
    before = replicator.log.index
    await keys.register()
    assert replicator.log.index == before
