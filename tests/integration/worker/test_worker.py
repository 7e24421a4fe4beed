"""A complete worker in the test process with fake coordinators: real TLS, real spool, fake provers."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from pki.x509.identity import Role
from tests.integration.fakes import prover as fake_prover
from tests.integration.fakes.coordinators import WAIT_S, Cluster, Network, within
from tests.integration.fakes.prover import PROOF, job_inputs
from worker.agent import Agent, Phase
from worker.attempt_runner import AttemptRunner
from worker.metrics import WorkerMetrics
from worker.pool import ProverPool, prover_command
from worker.reports import LeaderReports
from worker.session import WorkerInfo
from worker.spool import Spool
from zkp.client.leader import LeaderConnection
from zkp.proofs import circuits
from zkp.proofs.groth16 import Verifier
from zkp.proofs.keys import KeyStore
from zkp.protocol.v1 import coordinator_pb2 as pb

KEYS = {"addition": "ab" * 32}


@dataclass
class Worker:
    """The parts of a running worker."""

    agent: Agent
    workbench: AttemptRunner
    pool: ProverPool
    connection: LeaderConnection


class Rig:
    """Starts workers for a cluster."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.directory = directory
        self.material = cluster.network.material("worker-1", Role.WORKER)
        self._incarnations = 0

    @contextlib.asynccontextmanager
    async def worker(
        self,
        *,
        slots: int = 1,
        command: tuple[str, ...] | None = None,
        keys: dict[str, str] | None = None,
        connected: bool = True,
    ) -> AsyncIterator[Worker]:
        """A worker that serves until the block ends; then it is cut off, as by a crash.

        connected: wait until its stream is open, so that what is assigned afterwards stays assigned.
        """
        self._incarnations += 1
        keys = keys or KEYS
        spool = Spool(self.directory / "spool")
        pool = ProverPool(command or fake_prover.command(), slots)
        await pool.start()
        async with LeaderConnection(self.cluster.addresses, self.material) as connection:
            workbench = AttemptRunner(
                pool=pool,
                proof_store=spool,
                reporter=LeaderReports(connection, "worker-1"),
                metrics=WorkerMetrics(),
                verifying_keys=keys,
                slots=slots,
            )
            workbench.restore(spool.load())
            membership = WorkerInfo("worker-1", f"incarnation-{self._incarnations}", slots, keys, "1.0")
            agent = Agent(connection=connection, info=membership, runner=workbench)
            streams = len(self.cluster.records.streams)
            serving = asyncio.create_task(agent.serve())
            try:
                if connected:
                    await self.cluster.until(lambda: len(self.cluster.records.streams) > streams)
                yield Worker(agent, workbench, pool, connection)
            finally:
                serving.cancel()
                await asyncio.wait([serving])
                await workbench.close(0)
                await pool.stop()
                spool.close()

    def submit(self, task_id: str, inputs: bytes = b'{"do": "prove"}', *public_inputs: str) -> None:
        """A task in the cluster, not yet assigned."""
        self.cluster.submit(
            pb.Submission(task_id=task_id, circuit="addition", inputs=inputs, public_inputs=public_inputs)
        )

    def give(self, task_id: str, inputs: bytes = b'{"do": "prove"}') -> None:
        """A task that is assigned to the worker at once."""
        self.submit(task_id, inputs)
        self.cluster.assign(task_id, "worker-1")

    def state(self, task_id: str) -> Any:
        return self.cluster.tasks[task_id].state


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Three coordinators, the first of which leads."""
    async with Cluster(Network(tmp_path), keys=KEYS) as cluster:
        yield cluster


@pytest.fixture
def rig(cluster: Cluster, tmp_path: Path) -> Rig:
    """Makes workers for them."""
    return Rig(cluster, tmp_path)


async def until(condition: Callable[[], object]) -> None:
    """Poll until a condition holds."""
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.01)


async def appeared(path: Path) -> None:
    """Wait for a file that another process makes."""
    await until(path.exists)


def completed(cluster: Cluster) -> Callable[[], bool]:
    return lambda: all(task.state == pb.TASK_STATE_COMPLETED for task in cluster.tasks.values())


async def test_a_real_task_is_proved(tmp_path: Path, keys: KeyStore, keys_dir: Path) -> None:
    """From assignment to an accepted proof that verifies, with the real prover."""
    prepared = circuits.prepare("addition", circuits.find("addition").sample)
    async with Cluster(Network(tmp_path), keys=keys.verifying_keys()) as cluster:
        rig = Rig(cluster, tmp_path)
        command = prover_command(keys_dir, 10**9)
        async with rig.worker(command=command, keys=keys.verifying_keys()):
            rig.submit("t-1", prepared.inputs, *prepared.public_inputs)
            cluster.assign("t-1", "worker-1")
            await cluster.until(completed(cluster))
        assert Verifier(keys).verify("addition", cluster.tasks["t-1"].proof, prepared.public_inputs)
        assert cluster.records.starts == [("t-1", 1)]


async def test_the_leader_is_found_through_a_follower(cluster: Cluster, rig: Rig) -> None:
    """The worker registers with the leader and with no other node."""
    cluster.lead(2)
    async with rig.worker() as worker:
        rig.give("t-1")
        await cluster.until(completed(cluster))
        assert worker.agent.leader == cluster.addresses[2]
        assert len(cluster.records.registrations) == 1


async def test_a_failover_in_the_middle_of_a_proof_costs_nothing(cluster: Cluster, rig: Rig, tmp_path: Path) -> None:
    """The leader fails during a proof: the attempt is registered with the new leader and completed there."""
    async with rig.worker() as worker:
        rig.give("t-1", job_inputs("wait", begun=tmp_path / "begun", until=tmp_path / "go"))
        await appeared(tmp_path / "begun")
        await cluster.nodes[0].stop()
        cluster.lead(1)
        await cluster.until(lambda: len(cluster.records.streams) == 2)
        assert [list(each.held) for each in cluster.records.registrations] == [
            [],
            [pb.Attempt(task_id="t-1", attempt=1)],
        ]
        (tmp_path / "go").touch()
        await cluster.until(completed(cluster))
        assert cluster.tasks["t-1"].attempt == 1
        assert worker.agent.leader == cluster.addresses[1]


async def test_a_task_queue_survives_many_failovers(cluster: Cluster, rig: Rig) -> None:
    """Forty tasks while leadership moves eight times: all are completed, and no result is accepted twice."""
    moves = 0

    def schedule() -> bool:
        """Assign pending tasks to free slots after every change, and move the leadership."""
        nonlocal moves
        if len(cluster.records.completions) >= 5 * (moves + 1):
            moves += 1
            cluster.lead(moves % 3)
        waiting = [task_id for task_id, task in cluster.tasks.items() if task.state == pb.TASK_STATE_PENDING]
        if waiting and not cluster.leased("worker-1"):
            cluster.assign(waiting[0], "worker-1")
        return len(cluster.records.completions) >= 40

    for number in range(40):
        rig.submit(f"t-{number}")
    async with rig.worker():
        await cluster.until(schedule)
        assert completed(cluster)()
    assert moves == 8
    accepted = [report.task_id for report in cluster.records.completions]
    assert sorted(accepted) == sorted(cluster.tasks)


async def test_the_same_assignment_twice_is_proved_once(cluster: Cluster, rig: Rig, tmp_path: Path) -> None:
    """The new leader delivers again what the worker already has."""
    async with rig.worker(slots=2) as worker:
        rig.give("t-1", job_inputs("wait", begun=tmp_path / "begun", until=tmp_path / "go"))
        await appeared(tmp_path / "begun")
        cluster.lead(1)
        await cluster.until(lambda: len(cluster.records.streams) == 2)
        assert worker.pool.busy == 1
        assert worker.workbench.proving == 1
        (tmp_path / "go").touch()
        await cluster.until(completed(cluster))
        assert len(cluster.records.completions) == 1


async def test_a_stale_proof_is_refused_and_dropped(cluster: Cluster, rig: Rig, tmp_path: Path) -> None:
    """A report after the loss of the lease changes nothing, and the worker removes the proof."""
    cluster.heartbeat_ms = 60_000  # so that the worker hears of it by its report
    async with rig.worker() as worker:
        rig.give("t-1", job_inputs("wait", begun=tmp_path / "begun", until=tmp_path / "go"))
        await appeared(tmp_path / "begun")
        await cluster.until(lambda: cluster.records.starts)
        cluster.end_lease("t-1")
        (tmp_path / "go").touch()
        await cluster.until(lambda: ("ABORTED", _stale("t-1")) in cluster.records.refused)
        rig.give("t-2")
        await cluster.until(lambda: rig.state("t-2") == pb.TASK_STATE_COMPLETED)
        assert rig.state("t-1") == pb.TASK_STATE_PENDING
        await until(lambda: worker.workbench.held() == ())
    assert list((tmp_path / "spool").glob("*.proof")) == []


def _stale(task_id: str) -> str:
    return f"attempt 1 of task {task_id} is not worker-1's any more"


async def test_a_cancelled_task_frees_its_slot(cluster: Cluster, rig: Rig, tmp_path: Path) -> None:
    """The heartbeat's answer names it, the prover is killed, the next task is proved."""
    async with rig.worker() as worker:
        rig.give("t-1", job_inputs("wait", begun=tmp_path / "begun", until=tmp_path / "never"))
        await appeared(tmp_path / "begun")
        (pid,) = worker.pool.processes
        cluster.end_lease("t-1")
        await cluster.until(lambda: cluster.records.heartbeats and not cluster.records.heartbeats[-1].held)
        rig.give("t-2")
        await cluster.until(lambda: rig.state("t-2") == pb.TASK_STATE_COMPLETED)
        assert pid not in worker.pool.processes
        assert cluster.records.failures == []


async def test_a_killed_prover_is_reported_and_replaced(cluster: Cluster, rig: Rig, tmp_path: Path) -> None:
    """SIGKILL of the prover fails that attempt, retryable; the next attempt succeeds."""
    async with rig.worker():
        rig.give("t-1", job_inputs("wait", begun=tmp_path / "begun", until=tmp_path / "go"))
        await appeared(tmp_path / "begun")
        os.kill(int((tmp_path / "begun").read_text()), signal.SIGKILL)
        await cluster.until(lambda: cluster.records.failures)
        (report,) = cluster.records.failures
        assert (report.error.code, report.retryable, report.released) == ("prover_failed", True, False)
        (tmp_path / "go").touch()
        cluster.assign("t-1", "worker-1")
        await cluster.until(completed(cluster))
        assert cluster.tasks["t-1"].attempt == 2


async def test_the_time_limit_is_the_assignments(cluster: Cluster, rig: Rig, tmp_path: Path) -> None:
    """A proof that takes longer is cancelled and reported as a timeout."""
    async with rig.worker():
        rig.submit("t-1", job_inputs("wait", until=tmp_path / "never"))
        cluster.assign("t-1", "worker-1", time_limit_ms=200)
        await cluster.until(lambda: cluster.records.failures)
        (report,) = cluster.records.failures
        assert (report.error.code, report.error.message) == ("timeout", "no proof within 0.2 s")
        assert report.retryable


async def test_unsatisfied_inputs_end_the_task(cluster: Cluster, rig: Rig) -> None:
    """The report is not retryable."""
    async with rig.worker():
        rig.give("t-1", job_inputs("refuse"))
        await cluster.until(lambda: rig.state("t-1") == pb.TASK_STATE_FAILED)
        assert cluster.tasks["t-1"].error == cluster.records.failures[0].error
        assert cluster.records.failures[0].error.code == "unsatisfied_inputs"


async def test_another_verifying_key_is_reported(cluster: Cluster, rig: Rig) -> None:
    """The worker does not prove what the coordinator could not accept."""
    cluster.keys = {"addition": "cd" * 32}
    async with rig.worker():
        rig.give("t-1")
        await cluster.until(lambda: cluster.records.failures)
        assert cluster.records.failures[0].error.code == "key_mismatch"
        assert cluster.records.failures[0].retryable


async def test_a_finished_proof_survives_leaders_and_the_worker(cluster: Cluster, rig: Rig, tmp_path: Path) -> None:
    """Proved while no coordinator runs, spooled across a restart of the worker, then reported."""
    async with rig.worker() as worker:
        rig.give("t-1", job_inputs("wait", begun=tmp_path / "begun", until=tmp_path / "go"))
        await appeared(tmp_path / "begun")
        await asyncio.gather(*(node.stop() for node in cluster.nodes))
        (tmp_path / "go").touch()
        await until(lambda: list((tmp_path / "spool").glob("*.proof")))
        assert worker.workbench.proving == 0
    await asyncio.gather(*(node.start() for node in cluster.nodes))
    async with rig.worker() as successor:
        await cluster.until(completed(cluster))
        assert cluster.records.registrations[-1].incarnation == "incarnation-2"
        assert successor.pool.busy == 0
        await until(lambda: successor.workbench.held() == ())
    assert cluster.tasks["t-1"].proof == PROOF
    assert list((tmp_path / "spool").glob("*.proof")) == []


async def test_an_obsolete_spooled_proof_is_removed(cluster: Cluster, rig: Rig, tmp_path: Path) -> None:
    """The lease expired while the worker was down: the restarted worker drops the proof."""
    cluster.refusals["ReportCompletion"] = (grpc.StatusCode.UNAVAILABLE, "not now")
    async with rig.worker():
        rig.give("t-1")
        await cluster.until(lambda: ("UNAVAILABLE", "not now") in cluster.records.refused)
    assert len(list((tmp_path / "spool").glob("*.proof"))) == 1
    cluster.end_lease("t-1")
    async with rig.worker() as successor:
        await cluster.until(lambda: cluster.records.heartbeats and not cluster.records.heartbeats[-1].held)
        assert successor.workbench.held() == ()
        await successor.workbench.close(5)
    assert list((tmp_path / "spool").glob("*.proof")) == []
    assert cluster.records.completions == []


async def test_a_quarantined_worker_waits_to_be_released(
    cluster: Cluster, rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """It logs the reason and keeps running; `retry_now` after the release brings it back."""
    cluster.quarantined["worker-1"] = "sent a false proof"
    async with rig.worker(connected=False) as worker:
        await cluster.until(lambda: cluster.records.refused)
        await until(lambda: worker.agent.phase is Phase.REFUSED)
        assert "worker-1 is quarantined: sent a false proof" in caplog.text
        cluster.quarantined.clear()
        worker.agent.retry_now()
        await cluster.until(lambda: cluster.records.streams)
        rig.give("t-1")
        await cluster.until(completed(cluster))


async def test_a_drained_worker_finishes_and_releases(cluster: Cluster, rig: Rig, tmp_path: Path) -> None:
    """One proof finishes in time and is accepted, the other task is released without costing a retry."""
    async with rig.worker(slots=2) as worker:
        rig.give("t-1", job_inputs("wait", begun=tmp_path / "begun-1", until=tmp_path / "go"))
        rig.give("t-2", job_inputs("wait", begun=tmp_path / "begun-2", until=tmp_path / "never"))
        await appeared(tmp_path / "begun-1")
        await appeared(tmp_path / "begun-2")
        draining = asyncio.create_task(worker.agent.drain(0.5))
        (tmp_path / "go").touch()
        await within(draining)
    assert rig.state("t-1") == pb.TASK_STATE_COMPLETED
    (report,) = cluster.records.failures
    assert (report.task_id, report.released, report.retryable) == ("t-2", True, True)


async def test_a_worker_reconnects_with_a_renewed_certificate(cluster: Cluster, rig: Rig) -> None:
    """After a reload the connection is made anew, without a break that a task would notice."""
    material = rig.material
    async with rig.worker() as worker:
        rig.give("t-1")
        await cluster.until(completed(cluster))
        cluster.network.issue("worker-1", Role.WORKER, replace=True)
        assert material.reload()
        worker.connection.refresh()
        rig.give("t-2")
        await cluster.until(completed(cluster))
        assert cluster.records.failures == []
