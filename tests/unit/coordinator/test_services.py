"""The services of a node put together: what happens when it leads, while it leads, and when it no longer does."""

import asyncio
import logging

import pytest

from coordinator.errors import Unavailable
from coordinator.leader.leases import LeaseTiming
from coordinator.monitoring.registry import Metrics
from coordinator.raft import NotLeader, OutcomeUnknown
from coordinator.services.circuit_keys import CircuitKeys
from coordinator.services.tasks import TaskLimits
from coordinator.services.verification import Verification
from coordinator.services.workers import WorkerRegistration
from coordinator.state.commands import Fail, MarkOffline
from coordinator.state.model import TaskState
from coordinator.wiring import Dependencies, Services
from tests.unit.coordinator.fakes import (
    GOOD_PROOF,
    KEY,
    SERIAL,
    Clock,
    FakeRecord,
    KnowingVerifier,
    LocalReplicator,
    register,
    submission,
    submit,
)
from zkp.proofs import circuits

HELLO = WorkerRegistration("worker-1", "first", 2, {"addition": KEY}, (), "1.0")


class Node:
    """One node's services over a local replicator."""

    def __init__(self) -> None:
        self.replicator = LocalReplicator()
        self.clock = Clock()
        self.metrics = Metrics()
        self.recording: list[int] = []
        dependencies = Dependencies(
            replicator=self.replicator,
            record=FakeRecord(),
            projection_task=self._run_projection,
            retention_task=self._run_retention,
            keys=CircuitKeys(dict.fromkeys(circuits.NAMES, KEY), self.replicator),
            verification=Verification(KnowingVerifier()),
            metrics=self.metrics,
            clock=self.clock,
        )
        self.services = Services(dependencies, TaskLimits(100, 1_000, 3), LeaseTiming(1, 30, 100))

    async def _run_retention(self, _: int) -> None:
        await asyncio.Event().wait()

    async def _run_projection(self, term: int) -> None:
        self.recording.append(term)
        try:
            await asyncio.Event().wait()
        finally:
            self.recording.remove(term)

    async def lead(self) -> None:
        self.replicator.elect()
        await self.services.leadership.ready.wait()
        await turns()

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)


async def turns(number: int = 20) -> None:
    """Let whatever is ready run."""
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.fixture
def node() -> Node:
    return Node()


async def test_a_leader_pins_its_circuits_before_it_is_ready(node: Node) -> None:
    """A worker that registers at once finds the cluster's keys."""
    node.replicator.elect()
    assert not node.services.ready
    await node.services.leadership.ready.wait()
    assert set(node.replicator.state.circuits) == set(circuits.NAMES)
    await node.services.stop(Unavailable("end of the test"))


async def test_a_submitted_task_reaches_a_waiting_worker_and_its_proof_the_state(node: Node) -> None:
    """From submission to result, without any polling."""
    await node.lead()
    services = node.services
    await services.workers.register("worker-1", HELLO, SERIAL)
    stream = await services.workers.connect("worker-1", "worker-1", "first", SERIAL)
    assignments = services.workers.assignments(stream)
    await services.tasks.submit(submission("t"), "client/alice")
    assignment = await anext(assignments)
    assert (assignment.task.id, assignment.task.attempt) == ("t", 1)
    assert assignment.inputs == submission("t").inputs
    await services.reports.start("worker-1", "worker-1", "t", 1)
    await services.reports.complete("worker-1", "worker-1", "t", 1, GOOD_PROOF)
    assert node.replicator.state.tasks["t"].state is TaskState.COMPLETED
    assert node.count("zkp_tasks_submitted_total", circuit="addition") == 1
    assert node.count("zkp_tasks_finished_total", circuit="addition", state="completed") == 1
    await assignments.aclose()
    await services.stop(Unavailable("end of the test"))


async def test_a_freed_slot_is_filled_at_once(node: Node) -> None:
    """A worker that is done gets its next task in the same turn, however long the queue is."""
    await node.lead()
    services = node.services
    await services.workers.register("worker-1", HELLO, SERIAL)
    stream = await services.workers.connect("worker-1", "worker-1", "first", SERIAL)
    assignments = services.workers.assignments(stream)
    for number in range(10):
        await services.tasks.submit(submission(f"t{number}"), "client/alice")
    for _ in range(10):
        task = (await anext(assignments)).task
        await services.reports.complete("worker-1", "worker-1", task.id, task.attempt, GOOD_PROOF)
    assert node.replicator.state.counts[TaskState.COMPLETED] == 10
    await assignments.aclose()
    await services.stop(Unavailable("end of the test"))


async def test_tasks_that_waited_through_a_failover_are_handed_out_by_the_new_leader(node: Node) -> None:
    """It finds them in the replicated state, not in anybody's memory."""
    node.replicator.elect()
    await node.services.leadership.ready.wait()
    node.replicator.depose("coordinator-2")
    submit(node.replicator, "t")
    register(node.replicator, "worker-1")
    await node.lead()
    stream = await node.services.workers.connect("worker-1", "worker-1", "first", SERIAL)
    assignments = node.services.workers.assignments(stream)
    assert (await anext(assignments)).task.term == 2
    await assignments.aclose()
    await node.services.stop(Unavailable("end of the test"))


async def test_deposition_ends_streams_watches_and_duties(node: Node) -> None:
    """Only the leader writes to PostgreSQL and sweeps leases."""
    await node.lead()
    services = node.services
    register(node.replicator, "worker-1")
    stream = await services.workers.connect("worker-1", "worker-1", "first", SERIAL)
    submit(node.replicator, "t", "range_proof")
    watch = services.tasks.watch("t")
    await anext(watch)
    assert node.recording == [1]
    node.replicator.depose("coordinator-2")
    with pytest.raises(NotLeader):
        await stream.next()
    with pytest.raises(NotLeader):
        await anext(watch)
    await turns()
    assert node.recording == []
    assert not services.ready
    assert services.connected == 0
    before = len(node.replicator.submitted)
    node.clock.now += 1_000
    await turns()
    assert len(node.replicator.submitted) == before


async def test_a_re_election_starts_the_duties_anew(node: Node) -> None:
    """In the new term, each once."""
    for _ in range(3):
        await node.lead()
        node.replicator.depose(None)
    await node.lead()
    assert node.recording == [4]
    await node.services.stop(Unavailable("end of the test"))
    assert node.recording == []


async def test_a_follower_neither_counts_nor_logs_what_happens(node: Node, caplog: pytest.LogCaptureFixture) -> None:
    """What happened is said once in the cluster."""
    with caplog.at_level(logging.DEBUG, "zkp.coordinator"):
        await node.lead()
        node.replicator.depose("coordinator-2")
        caplog.clear()
        submit(node.replicator, "t")
    assert caplog.records == []
    assert node.count("zkp_tasks_submitted_total", circuit="addition") == 0


async def test_a_silent_worker_loses_its_tasks_to_another(node: Node) -> None:
    """The lease sweep proposes, the scheduler hands out anew."""
    await node.lead()
    services = node.services
    await services.workers.register("worker-1", HELLO, SERIAL)
    silent = await services.workers.connect("worker-1", "worker-1", "first", SERIAL)
    await services.tasks.submit(submission("t"), "client/alice")
    assert (await silent.next()).attempt == 1
    other = WorkerRegistration("worker-2", "first", 1, {"addition": KEY}, (), "1.0")
    await services.workers.register("worker-2", other, SERIAL)
    stream = await services.workers.connect("worker-2", "worker-2", "first", SERIAL)
    node.replicator.apply(MarkOffline("worker-1", "first"))
    task = await stream.next()
    assert (task.id, task.attempt) == ("t", 2)
    await services.stop(Unavailable("end of the test"))


async def test_an_assignment_with_an_unknown_outcome_is_made_again(node: Node) -> None:
    """Nothing waits for an answer that never comes."""
    await node.lead()
    services = node.services
    await services.workers.register("worker-1", HELLO, SERIAL)
    stream = await services.workers.connect("worker-1", "worker-1", "first", SERIAL)
    await turns()
    submit(node.replicator, "t")
    node.replicator.log.failures = [OutcomeUnknown("no quorum in time")]
    assert (await stream.next()).id == "t"
    await services.stop(Unavailable("end of the test"))


async def test_a_fault_in_what_listens_does_not_stop_the_state(
    node: Node, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception there would be one in every node that applies the command."""
    await node.lead()

    def broken(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(node.metrics, "observe", broken)
    submit(node.replicator, "t")
    assert node.replicator.state.tasks["t"].state is TaskState.PENDING
    assert "were not followed" in caplog.text
    await node.services.stop(Unavailable("end of the test"))


async def test_the_log_tells_the_life_of_tasks_without_their_inputs(
    node: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """Private inputs are never logged."""
    with caplog.at_level(logging.DEBUG):
        await node.lead()
        await node.services.workers.register("worker-1", HELLO, SERIAL)
        stream = await node.services.workers.connect("worker-1", "worker-1", "first", SERIAL)
        await node.services.tasks.submit(submission("t", a=31_337, b=1), "client/alice")
        await stream.next()
        node.replicator.apply(Fail("t", "worker-1", 1, "out_of_memory", "killed", retryable=True))
    lines = [record.getMessage() for record in caplog.records]
    assert "task submitted" in lines
    assert "task assigned, in attempt 1" in lines
    assert "task requeued, in attempt 1, out_of_memory: killed" in lines
    requeued = next(record for record in caplog.records if record.getMessage().startswith("task requeued"))
    assert (requeued.task_id, requeued.worker_id, requeued.term) == ("t", "worker-1", 1)  # type: ignore[attr-defined]
    assert "31337" not in caplog.text
    await node.services.stop(Unavailable("end of the test"))
