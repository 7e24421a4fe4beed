"""Forgetting finished tasks when nothing happens that would carry it along."""

import asyncio
from dataclasses import dataclass

import pytest

from coordinator.leader import retention as module
from coordinator.leader.retention import RetentionLoop
from coordinator.state.commands import Projected
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


@dataclass
class Clock:
    """Seconds; only goes forward."""

    time: float = 5_000.0

    def __call__(self) -> float:
        return self.time


async def test_a_task_goes_once_its_retention_has_passed(replicator: LocalReplicator) -> None:
    """Not before, and without anybody submitting or finishing anything."""
    clock = Clock()
    house = RetentionLoop(replicator, RETENTION_S, clock)
    assert not house.due()
    clock.time += RETENTION_S - 1
    assert not house.due()
    clock.time += 1
    assert house.due()

    await house.acknowledge(replicator.state.projected)

    assert replicator.state.tasks == {}
    assert not house.due()


async def test_clocks_that_are_set_make_no_task_go(replicator: LocalReplicator) -> None:
    """A day forward, a day back: stamps follow wall time, retention does not."""
    house = RetentionLoop(replicator, RETENTION_S, Clock())
    house.due()
    for jump_ms in (86_400_000, -2 * 86_400_000):
        replicator.now_ms += jump_ms
        submit(replicator, f"after {jump_ms}")
        await house.acknowledge(replicator.state.projected)
        assert "a" in replicator.state.tasks


def test_a_new_leader_grants_the_whole_retention(replicator: LocalReplicator) -> None:
    """It does not know for how long the others have kept what."""
    clock = Clock()
    house = RetentionLoop(replicator, RETENTION_S, clock)
    house.due()
    clock.time += RETENTION_S
    replicator.log.term += 1
    assert not house.due()
    clock.time += RETENTION_S
    assert house.due()


def test_what_the_record_lacks_stays(replicator: LocalReplicator) -> None:
    """However old it is."""
    submit(replicator, "b")
    complete(replicator, assign(replicator, "b", "worker-1"))
    replicator.apply(Projected(replicator.state.projected, replicator.state.revision))
    assert list(replicator.state.tasks) == ["b"]
    clock = Clock()
    house = RetentionLoop(replicator, RETENTION_S, clock)
    house.due()
    clock.time += 10 * RETENTION_S
    assert not house.due()


async def test_the_duty_proposes_only_what_is_due(
    replicator: LocalReplicator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle cluster writes nothing into its log."""
    monkeypatch.setattr(module, "_MIN_CHECK_INTERVAL_S", 0)
    running = asyncio.create_task(RetentionLoop(replicator, 0.0, Clock()).run())
    while replicator.state.tasks:  # noqa: ASYNC110 - nothing tells us
        await asyncio.sleep(0)
    index = replicator.log.index
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    assert replicator.log.index == index
