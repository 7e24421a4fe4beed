"""Callers that follow a task."""

import asyncio
from contextlib import aclosing

import pytest

from coordinator.errors import Overloaded
from coordinator.leader.watchers import TaskWatchers
from coordinator.raft import NotLeader
from coordinator.state.commands import Cancel
from coordinator.state.model import Task, TaskState
from tests.unit.coordinator.fakes import assign, complete, leader, register, start, submit


async def test_every_version_up_to_the_final_one_is_told_to_a_fast_caller() -> None:
    """The current version at once, then each change, then the end."""
    replicator = leader()
    register(replicator, "worker-1")
    watches = TaskWatchers(10)
    replicator.on_events(watches.observe)
    seen = []
    async for version in watches.follow(submit(replicator, "t")):
        seen.append(version.state)
        if version.state is TaskState.PENDING:
            assign(replicator, "t", "worker-1")
        elif version.state is TaskState.ASSIGNED:
            start(replicator, version)
        elif version.state is TaskState.IN_PROGRESS:
            complete(replicator, version)
    assert seen == [TaskState.PENDING, TaskState.ASSIGNED, TaskState.IN_PROGRESS, TaskState.COMPLETED]
    assert watches.count == 0


async def test_a_slow_caller_skips_to_the_latest_version() -> None:
    """Nothing piles up for callers that do not read."""
    replicator = leader()
    register(replicator, "worker-1")
    watches = TaskWatchers(10)
    replicator.on_events(watches.observe)
    async with aclosing(watches.follow(submit(replicator, "t"))) as versions:
        assert (await anext(versions)).state is TaskState.PENDING
        task = assign(replicator, "t", "worker-1")
        start(replicator, task)
        complete(replicator, task)
        assert [version.state async for version in versions] == [TaskState.COMPLETED]


async def test_a_watch_ends_with_leadership() -> None:
    """A deposed node no longer hears first what happens: callers are sent on."""
    replicator = leader()
    watches = TaskWatchers(10)
    async with aclosing(watches.follow(submit(replicator, "t"))) as versions:
        await anext(versions)
        waiting = asyncio.ensure_future(anext(versions))
        await asyncio.sleep(0)
        watches.end_all(NotLeader("coordinator-2"))
        with pytest.raises(NotLeader):
            await waiting
    assert watches.count == 0


async def test_watches_are_bounded() -> None:
    """The caller above the bound is told to poll; those who left make room."""
    replicator = leader()
    watches = TaskWatchers(1)
    task = submit(replicator, "t")
    async with aclosing(watches.follow(task)) as first:
        await anext(first)
        with pytest.raises(Overloaded):
            await anext(watches.follow(task))
    assert (await anext(watches.follow(task))).id == "t"


async def test_each_caller_hears_of_its_own_task_only() -> None:
    """Two callers, two tasks."""
    replicator = leader()
    watches = TaskWatchers(10)
    replicator.on_events(watches.observe)

    async def last_of(task: Task) -> tuple[str, TaskState]:
        versions = [version async for version in watches.follow(task)]
        return versions[-1].id, versions[-1].state

    ends = [asyncio.create_task(last_of(submit(replicator, task_id))) for task_id in ("a", "b")]
    await asyncio.sleep(0)
    replicator.apply(Cancel("a"))
    replicator.apply(Cancel("b"))
    assert await asyncio.gather(*ends) == [("a", TaskState.CANCELLED), ("b", TaskState.CANCELLED)]
