"""Forgetting finished tasks when nothing happens that would carry it along."""

import asyncio

import pytest

from coordinator import housekeeping as module
from coordinator.commands import Projected
from coordinator.housekeeping import Housekeeping
from tests.unit.coordinator.fakes import LocalReplicator, assign, complete, leader, register, submit

RETENTION_S = 3600.0


@pytest.fixture
def replicator() -> LocalReplicator:
    """A leader whose one task has just been completed and is in the record."""
    replicator = leader()
    register(replicator, "worker-1")
    submit(replicator, "a")
    complete(replicator, assign(replicator, "a", "worker-1"))
    replicator.apply(Projected(replicator.state.revision, 0))
    return replicator


def house(replicator: LocalReplicator, later_s: float) -> Housekeeping:
    """It is so much later now."""
    return Housekeeping(replicator, RETENTION_S, lambda: replicator.now_ms + int(later_s * 1000))


async def test_a_task_goes_once_its_retention_has_passed(replicator: LocalReplicator) -> None:
    """Not before, and without anybody submitting or finishing anything."""
    assert not house(replicator, RETENTION_S - 1).due()
    late = house(replicator, RETENTION_S + 1)
    assert late.due()

    await late.acknowledge(replicator.state.projected)

    assert replicator.state.tasks == {}
    assert not late.due()


def test_what_the_record_lacks_stays(replicator: LocalReplicator) -> None:
    """However old it is."""
    submit(replicator, "b")
    complete(replicator, assign(replicator, "b", "worker-1"))
    replicator.apply(Projected(replicator.state.projected, replicator.now_ms + 1))
    assert list(replicator.state.tasks) == ["b"]
    assert not house(replicator, 10 * RETENTION_S).due()


async def test_the_duty_proposes_only_what_is_due(
    replicator: LocalReplicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle cluster writes nothing into its log."""
    monkeypatch.setattr(module, "_SHORTEST_PERIOD_S", 0)
    running = asyncio.create_task(Housekeeping(replicator, 0.0, lambda: replicator.now_ms + 1_000).run())
    while replicator.state.tasks:  # noqa: ASYNC110 - nothing tells us
        await asyncio.sleep(0)
    index = replicator.log.index
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    assert replicator.log.index == index
