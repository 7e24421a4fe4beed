"""Assignment streams of workers."""

import asyncio

import pytest

from coordinator.errors import Forbidden, NotFound, Superseded, Unavailable
from coordinator.leader.assignment_streams import AssignmentStreams, Stream
from coordinator.raft import NotLeader
from coordinator.state.commands import MarkOffline, Quarantine
from tests.unit.coordinator.fakes import LocalReplicator, assign, leader, register, submit


def connected(replicator: LocalReplicator) -> tuple[AssignmentStreams, Stream]:
    streams = AssignmentStreams()
    replicator.on_events(streams.observe)
    return streams, streams.open(replicator.state.workers["worker-1"], "first", [])


@pytest.fixture
def replicator() -> LocalReplicator:
    replicator = leader()
    register(replicator, "worker-1", capacity=2)
    return replicator


async def test_an_assignment_reaches_the_stream_of_its_worker(replicator: LocalReplicator) -> None:
    """A committed assignment is sent to the worker that it names."""
    streams, stream = connected(replicator)
    register(replicator, "worker-2")
    other = streams.open(replicator.state.workers["worker-2"], "first", [])
    submit(replicator, "t")
    waiting = asyncio.create_task(stream.next())
    await asyncio.sleep(0)
    assign(replicator, "t", "worker-1")
    assert (await waiting).id == "t"
    other.end(Unavailable("end of the test"))
    with pytest.raises(Unavailable):
        await other.next()


async def test_what_was_assigned_before_the_stream_comes_first(replicator: LocalReplicator) -> None:
    """An assignment that was lost with an old stream is sent on the new one."""
    submit(replicator, "t")
    task = assign(replicator, "t", "worker-1")
    stream = AssignmentStreams().open(replicator.state.workers["worker-1"], "first", [task])
    assert await stream.next() == task


async def test_a_newer_stream_ends_the_older(replicator: LocalReplicator) -> None:
    """One stream a worker; closing the older one later does not touch the newer."""
    streams, older = connected(replicator)
    newer = streams.open(replicator.state.workers["worker-1"], "first", [])
    with pytest.raises(Superseded):
        await older.next()
    streams.close(older)
    assert list(streams.connected) == ["worker-1"]
    streams.close(newer)
    assert list(streams.connected) == []


async def test_streams_end_with_leadership(replicator: LocalReplicator) -> None:
    """Deposition ends every open stream."""
    streams, stream = connected(replicator)
    streams.end_all(NotLeader("coordinator-2"))
    with pytest.raises(NotLeader):
        await stream.next()
    assert list(streams.connected) == []


@pytest.mark.parametrize(
    ("command", "refusal"),
    [
        (MarkOffline("worker-1", "first"), NotFound),
        (Quarantine("worker-1", "lied"), Forbidden),
    ],
)
async def test_a_worker_that_may_not_work_loses_its_stream(
    replicator: LocalReplicator, command: MarkOffline | Quarantine, refusal: type[Exception]
) -> None:
    """Offline: register again. Quarantined: wait for an operator."""
    streams, stream = connected(replicator)
    replicator.apply(command)
    with pytest.raises(refusal):
        await stream.next()
    assert list(streams.connected) == []


async def test_a_restarted_worker_takes_the_stream_of_its_old_process(replicator: LocalReplicator) -> None:
    """The old process, if it lives, is told to register again."""
    _, stream = connected(replicator)
    register(replicator, "worker-1", incarnation="second")
    with pytest.raises(NotFound, match="register again"):
        await stream.next()


async def test_only_a_registered_process_opens_a_stream(replicator: LocalReplicator) -> None:
    """Another incarnation, or none at all, has to register first."""
    with pytest.raises(NotFound):
        AssignmentStreams().open(replicator.state.workers["worker-1"], "another", [])


async def test_a_worker_that_does_not_read_loses_its_stream_and_not_the_leaders_memory(
    replicator: LocalReplicator,
) -> None:
    """What waits is bounded by twice the slots; the tasks stay assigned and their leases run."""
    submit(replicator, "t")
    task = assign(replicator, "t", "worker-1")
    stream = Stream("worker-1", "first", bound=2)
    for _ in range(3):
        stream.put(task)
    assert stream.ended
    stream.put(task)
    with pytest.raises(Unavailable, match="does not read"):
        await stream.next()


async def test_coming_and_going_is_told() -> None:
    """Whoever hands out tasks is woken for both."""
    replicator = leader()
    register(replicator, "worker-1")
    streams = AssignmentStreams()
    told: list[int] = []
    streams.on_change = lambda: told.append(len(streams.connected))
    stream = streams.open(replicator.state.workers["worker-1"], "first", [])
    streams.close(stream)
    assert told == [1, 0]
