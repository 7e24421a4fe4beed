"""What workers ask of the leader: registration, heartbeats, streams."""

import asyncio
import logging
from dataclasses import replace

import pytest

from coordinator.errors import Forbidden, InvalidRequest, NotFound, Overloaded, Unavailable
from coordinator.leader.assignment_streams import AssignmentStreams
from coordinator.leader.leases import Leases, LeaseTiming
from coordinator.raft import NotLeader
from coordinator.services.circuit_keys import CircuitKeys
from coordinator.services.workers import WorkerRegistration, Workers
from coordinator.state.commands import Cancel, LoseLease, MarkOffline, Quarantine, RegisterWorker
from coordinator.state.model import TaskState, WorkerState
from tests.unit.coordinator.fakes import (
    KEY,
    SERIAL,
    Clock,
    LocalReplicator,
    assign,
    leader,
    register,
    start,
    submit,
)
from zkp.proofs import circuits

HELLO = WorkerRegistration("worker-1", "first", 2, {"addition": KEY}, (), "1.0")


class Side:
    """The leader's side of the workers, with everything around it."""

    def __init__(self) -> None:
        self.replicator = leader()
        self.clock = Clock()
        self.leases = Leases(LeaseTiming(10, 30, 100))
        self.leases.begin(self.replicator.state, self.clock())
        self.streams = AssignmentStreams()
        self.replicator.on_events(self.streams.observe)
        keys = CircuitKeys(dict.fromkeys(circuits.NAMES, KEY), self.replicator)
        self.workers = Workers(self.replicator, self.leases, self.streams, keys, self.clock)


@pytest.fixture
def side() -> Side:
    return Side()


async def test_a_worker_is_registered_with_the_circuits_whose_keys_match(
    side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker with other keys than the cluster gets no tasks."""
    hello = replace(HELLO, circuits={"addition": KEY, "range_proof": "cd" * 32, "sudoku": KEY})
    with caplog.at_level(logging.WARNING):
        assert await side.workers.register("worker-1", hello, SERIAL) == ()
    worker = side.replicator.state.workers["worker-1"]
    assert (worker.state, worker.circuits, worker.capacity) == (WorkerState.ONLINE, frozenset({"addition"}), 2)
    assert "range_proof" in caplog.text
    assert "sudoku" in caplog.text


async def test_a_worker_with_nothing_but_wrong_keys_is_told_so(side: Side) -> None:
    """It would stay idle without a visible reason."""
    with pytest.raises(InvalidRequest, match="cluster's verifying key") as refused:
        await side.workers.register("worker-1", replace(HELLO, circuits={"addition": "cd" * 32}), SERIAL)
    assert refused.value.field == "circuits"
    assert side.replicator.state.workers == {}


async def test_a_worker_that_comes_before_the_circuits_are_pinned_is_asked_to_come_again() -> None:
    """The first leader of a new cluster pins them within moments: this is no mistake of the worker's."""
    replicator = LocalReplicator()
    replicator.elect()
    keys = CircuitKeys({"addition": KEY}, replicator)
    workers = Workers(replicator, Leases(LeaseTiming(10, 30, 100)), AssignmentStreams(), keys, Clock())
    with pytest.raises(Unavailable, match="register again"):
        await workers.register("worker-1", HELLO, SERIAL)
    await keys.register()
    assert await workers.register("worker-1", HELLO, SERIAL) == ()


async def test_a_worker_speaks_for_itself_alone(side: Side) -> None:
    """The certificate's name decides, whatever the request says."""
    register(side.replicator, "worker-1")
    with pytest.raises(Forbidden, match="worker-2"):
        await side.workers.register("worker-2", HELLO, SERIAL)
    with pytest.raises(Forbidden):
        await side.workers.heartbeat("worker-2", "worker-1", "first", (), SERIAL)
    with pytest.raises(Forbidden):
        await side.workers.connect("worker-2", "worker-1", "first", SERIAL)
    assert side.leases.last_heard("worker-1") is None


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"capacity": 0}, "capacity"),
        ({"capacity": 1_025}, "capacity"),
        ({"incarnation": ""}, "incarnation"),
        ({"incarnation": "a b"}, "incarnation"),
        ({"circuits": {}}, "circuits"),
        ({"circuits": {"addition": "XYZ"}}, "circuits"),
        ({"circuits": {"a\nb": KEY}}, "circuits"),
        ({"held": tuple(("t", number) for number in range(4_097))}, "held"),
        ({"version": "x" * 65}, "version"),
        ({"version": "1\n2"}, "version"),
    ],
)
async def test_a_malformed_introduction_is_refused_by_field(
    side: Side, change: dict[str, object], field: str
) -> None:
    """Each bound of a registration."""
    with pytest.raises(InvalidRequest) as refused:
        await side.workers.register("worker-1", replace(HELLO, **change), SERIAL)  # type: ignore[arg-type]
    assert refused.value.field == field
    assert side.replicator.state.workers == {}


async def test_registration_takes_back_what_is_not_held_and_drops_what_is_not_the_workers(side: Side) -> None:
    """After a restart of either side both agree on what the worker has."""
    for task_id in ("kept", "gone", "other"):
        submit(side.replicator, task_id)
    await side.workers.register("worker-1", HELLO, SERIAL)
    assign(side.replicator, "kept", "worker-1")
    assign(side.replicator, "gone", "worker-1")
    hello = replace(HELLO, incarnation="second", held=(("kept", 1), ("other", 1), ("never", 7)))
    assert await side.workers.register("worker-1", hello, SERIAL) == (("never", 7), ("other", 1))
    tasks = side.replicator.state.tasks
    assert tasks["kept"].state is TaskState.ASSIGNED
    assert tasks["gone"].state is TaskState.PENDING


async def test_a_quarantined_worker_cannot_register_its_way_out(side: Side) -> None:
    """Only an operator ends a quarantine."""
    await side.workers.register("worker-1", HELLO, SERIAL)
    side.replicator.apply(Quarantine("worker-1", "sent a false proof"))
    with pytest.raises(Forbidden, match="false proof"):
        await side.workers.register("worker-1", replace(HELLO, incarnation="second"), SERIAL)
    with pytest.raises(Forbidden, match="false proof"):
        await side.workers.heartbeat("worker-1", "worker-1", "first", (), SERIAL)


async def test_the_number_of_known_workers_is_bounded(side: Side) -> None:
    """The number of known workers is bounded."""
    for number in range(4_096):
        command = RegisterWorker(f"w{number}", "first", 1, frozenset({"addition"}), (), "")
        side.replicator.state.apply(command, 1, 1)
    with pytest.raises(Overloaded):
        await side.workers.register("worker-1", HELLO, SERIAL)


async def test_heartbeats_are_believed_and_say_what_to_drop(side: Side) -> None:
    """A cancelled attempt is dropped at the next heartbeat."""
    await side.workers.register("worker-1", HELLO, SERIAL)
    for task_id in ("kept", "cancelled"):
        submit(side.replicator, task_id)
        assign(side.replicator, task_id, "worker-1")
    side.replicator.apply(Cancel("cancelled"))
    side.clock.now += 5
    held = (("kept", 1), ("cancelled", 1))
    assert await side.workers.heartbeat("worker-1", "worker-1", "first", held, SERIAL) == (("cancelled", 1),)
    assert side.leases.last_heard("worker-1") == side.clock.now


async def test_heartbeats_write_nothing(side: Side) -> None:
    """They are the leader's soft state: only the loss of a lease is replicated."""
    await side.workers.register("worker-1", HELLO, SERIAL)
    before = side.replicator.log.index
    await side.workers.heartbeat("worker-1", "worker-1", "first", (), SERIAL)
    assert side.replicator.log.index == before
    assert side.replicator.barriers == 1  # the registration's


@pytest.mark.parametrize("incarnation", ["first", "another"])
async def test_a_process_that_is_not_registered_is_told_to_register(side: Side, incarnation: str) -> None:
    """A worker that the leader does not know is told to register again."""
    await side.workers.register("worker-1", HELLO, SERIAL)
    side.replicator.apply(MarkOffline("worker-1", "first"))
    with pytest.raises(NotFound, match="register again"):
        await side.workers.heartbeat("worker-1", "worker-1", incarnation, (), SERIAL)
    with pytest.raises(NotFound, match="register again"):
        await side.workers.connect("worker-1", "worker-1", incarnation, SERIAL)


async def test_a_leader_that_was_deposed_unawares_drops_nothing(side: Side) -> None:
    """Its old state lacks new attempts and workers; the barrier that it cannot pass keeps it from saying so."""
    await side.workers.register("worker-1", HELLO, SERIAL)
    side.replicator.on_barrier = lambda: side.replicator.depose("coordinator-2")
    with pytest.raises(NotLeader):
        await side.workers.heartbeat("worker-1", "worker-1", "first", (("assigned by the new leader", 1),), SERIAL)


async def test_a_stale_leader_does_not_call_a_worker_unknown(side: Side) -> None:
    """The worker may have registered with the new leader."""
    side.replicator.on_barrier = lambda: side.replicator.depose("coordinator-2")
    with pytest.raises(NotLeader):
        await side.workers.connect("worker-1", "worker-1", "first", SERIAL)


async def test_a_new_stream_begins_with_what_may_not_have_arrived(side: Side) -> None:
    """Assigned, not started, and not among what the worker says it holds."""
    await side.workers.register("worker-1", replace(HELLO, capacity=3), SERIAL)
    for task_id in ("held", "lost", "started"):
        submit(side.replicator, task_id)
        assign(side.replicator, task_id, "worker-1")
    start(side.replicator, side.replicator.state.tasks["started"])
    await side.workers.heartbeat("worker-1", "worker-1", "first", (("held", 1),), SERIAL)
    stream = await side.workers.connect("worker-1", "worker-1", "first", SERIAL)
    submit(side.replicator, "new")
    assignments = side.workers.assignments(stream)
    assert (await anext(assignments)).task.id == "lost"
    side.workers.disconnect(stream)
    await assignments.aclose()


async def test_an_assignment_that_was_cancelled_on_its_way_is_not_sent(side: Side) -> None:
    """Nor is one whose lease was lost: the worker gets what is true when it reads."""
    await side.workers.register("worker-1", replace(HELLO, capacity=3), SERIAL)
    stream = await side.workers.connect("worker-1", "worker-1", "first", SERIAL)
    for task_id in ("cancelled", "lost", "good"):
        submit(side.replicator, task_id)
        assign(side.replicator, task_id, "worker-1")
    side.replicator.apply(Cancel("cancelled"))
    side.replicator.apply(LoseLease("lost", 1, "timeout", ""))
    assignments = side.workers.assignments(stream)
    assignment = await anext(assignments)
    assert (assignment.task.id, assignment.inputs) == ("good", b"{}")
    await assignments.aclose()


async def test_nothing_but_assignments_is_sent(side: Side) -> None:
    """A stream carries assignments only."""
    await side.workers.register("worker-1", HELLO, SERIAL)
    stream = await side.workers.connect("worker-1", "worker-1", "first", SERIAL)
    waiting = asyncio.ensure_future(anext(side.workers.assignments(stream)))
    await side.workers.heartbeat("worker-1", "worker-1", "first", (), SERIAL)
    submit(side.replicator, "for nobody")
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


async def test_a_follower_takes_no_worker(side: Side) -> None:
    """It says who leads instead."""
    side.replicator.depose("coordinator-2")
    with pytest.raises(NotLeader):
        await side.workers.register("worker-1", HELLO, SERIAL)
    with pytest.raises(NotLeader):
        await side.workers.heartbeat("worker-1", "worker-1", "first", (), SERIAL)
    with pytest.raises(NotLeader):
        await side.workers.connect("worker-1", "worker-1", "first", SERIAL)


async def test_deposition_while_a_stream_opens_leaves_no_stream_behind(side: Side) -> None:
    """A stream that nothing would end must not be opened."""
    replicator: LocalReplicator = side.replicator

    def move_on() -> None:
        register(replicator, "worker-1")
        replicator.log.leading_term = None

    replicator.on_barrier = move_on
    with pytest.raises(NotLeader):
        await side.workers.connect("worker-1", "worker-1", "first", SERIAL)
    assert list(side.streams.connected) == []
