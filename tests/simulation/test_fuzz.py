"""Clusters under random faults keep every promise that they made.

A seed that breaks one is shrunk to few faults and shown with what happened last.
"""

import pytest

from tests.simulation.faults import FAULTS
from tests.simulation.schedule import fuzz, schedule

FEW = 20
"""Faults a seed."""
THREE, FIVE = range(150), range(1_000, 1_030)


@pytest.mark.parametrize("seed", THREE)
def test_three_nodes_keep_every_promise(seed: int) -> None:
    """No task is lost, no entry differs, no term has two leaders, clients and record are told one story."""
    cluster = fuzz(seed, faults=FEW)
    assert cluster.acknowledged
    assert cluster.faults.total() == FEW


@pytest.mark.parametrize("seed", FIVE)
def test_five_nodes_keep_every_promise(seed: int) -> None:
    """The same where two may fail at once."""
    cluster = fuzz(seed, size=5, faults=FEW)
    assert cluster.acknowledged
    assert cluster.faults.total() == FEW


def test_every_kind_of_fault_happens_many_times() -> None:
    """Within the seeds that are run here."""
    steps = [step for seed in (*THREE, *FIVE) for step in schedule(seed, FEW)]
    assert len(steps) >= 3_500
    assert min(sum(step.fault == fault for step in steps) for fault in FAULTS) > 100


def test_a_seed_replays_exactly() -> None:
    """One number is enough to see again what happened."""
    one, other = fuzz(7, faults=12), fuzz(7, faults=12)
    assert list(one.trace) == list(other.trace)
    assert one.ledger.entries == other.ledger.entries
