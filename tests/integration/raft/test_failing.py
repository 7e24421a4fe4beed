"""A node whose core fails in a way that nobody expected ends: up for nothing, it might promise what it lacks."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from coordinator.raft import RaftRunner
from tests.integration.raft.trio import Trio, three_members, until


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[Trio]:
    async with three_members(tmp_path) as cluster:
        yield cluster


def fail(*_: object) -> None:
    raise RuntimeError("nobody expected this")


@pytest.mark.parametrize("step", ["tick", "receive"])
async def test_an_unexpected_error_is_fatal(trio: Trio, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether time or a frame brought it. The others go on without this node."""
    leader = await trio.elected()
    assert leader.runner is not None
    await trio.say("one")
    runner: RaftRunner = leader.runner
    monkeypatch.setattr(runner._node, step, fail)
    await until(runner.fatal.done)
    assert str(runner.fatal.result()) == (
        "the Raft core failed (RuntimeError('nobody expected this')): start the node again"
    )
    ticked = runner.last_tick
    monkeypatch.undo()
    await leader.stop()
    assert await trio.elected() is not leader
    await trio.say("two")
    await trio.agreed("one", "two")
    assert runner.last_tick == ticked
