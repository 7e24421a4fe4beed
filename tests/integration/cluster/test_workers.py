"""Workers that are killed, stopped, or given invalid inputs: only the attempt is lost."""

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from tests.integration.cluster.network import Network, eventually, frozen, has_ended, running
from tests.integration.cluster.work import (
    check_proofs,
    check_recorded_once,
    finished,
    submission,
    submit,
    under_way,
)
from zkp.client.errors import InvalidSubmission
from zkp.client.model import TaskState
from zkp.proofs.field import ORDER

WORKERS = ("worker-1", "worker-2")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Network]:
    """The network of this module: leases of 5 s, a drain of 3 s."""
    settings = {"COORDINATOR_TASKS_LEASE": "5s", "WORKER_DRAIN_TIMEOUT": "3s"}
    with running(tmp_path_factory.mktemp("workers"), keys, variables=settings) as network:
        yield network


@pytest.fixture
def network(shared: Network) -> Network:
    """The module's network, with both workers running."""
    shared.cluster.up()
    eventually("two workers", lambda: shared.health(shared.leader().id)["workers"].get("connected") == 2)
    return shared


def other(worker: str) -> str:
    """Return the other worker."""
    return next(name for name in WORKERS if name != worker)


def attempts(network: Network, task_id: str) -> list[tuple[int, str, str]]:
    """Return the stored attempts: number, worker, state."""
    rows = network.rows("SELECT attempt, worker_id, state FROM attempts WHERE task_id = %s ORDER BY attempt", task_id)
    return [(row["attempt"], row["worker_id"], row["state"]) for row in rows]


def by(network: Network, worker: str, ids: list[str]) -> bool:
    """Return whether the database has a task of these that the worker completed."""
    statement = "SELECT id FROM tasks WHERE id = ANY(%s) AND worker_id = %s AND state = 'completed'"
    return network.rows(statement, ids, worker) != []


async def test_the_task_of_a_killed_worker_is_completed_by_the_other(network: Network, keys: Path) -> None:
    """SIGKILL in the middle of a proof: the attempt is lost, the other worker's next one is accepted, and the dead
    worker's prover does not outlive it."""
    async with network.client() as client:
        with frozen(*network.provers(*WORKERS)):  # so that the proof is not finished when its worker dies
            (task_id,) = await submit(client, submission("merkle_proof"))
            victim = (await under_way(client, task_id)).worker_id or ""
            (orphan,) = network.provers(victim)
            await asyncio.to_thread(network.cluster.kill, victim)
        tasks = await finished(client, [task_id])

    check_proofs(keys, tasks)
    check_recorded_once(network, tasks)
    assert attempts(network, task_id) == [(1, victim, "lost"), (2, other(victim), "completed")]
    assert tasks[task_id].retries == 1
    eventually("the end of the dead worker's prover", lambda: has_ended(orphan))


async def test_a_killed_prover_fails_its_own_attempt_alone(network: Network, keys: Path) -> None:
    """The worker continues with a new prover, and the other worker is not affected."""
    before = {worker: network.process(worker).pid for worker in WORKERS}
    async with network.client() as client:
        with frozen(*network.provers(*WORKERS)):
            ids = await submit(client, submission("merkle_proof"), submission("merkle_proof"))
            workers = {task_id: (await under_way(client, task_id)).worker_id or "" for task_id in ids}
            hurt, spared = ids
            (prover,) = network.provers(workers[hurt])
            prover.kill()
        tasks = await finished(client, ids)
        with frozen(*network.provers(workers[spared])):  # so that one of two tasks can only be the hurt worker's
            after = await submit(client, submission(), submission())
            await asyncio.to_thread(
                eventually, "a proof of the hurt worker", lambda: by(network, workers[hurt], after)
            )
            (next_prover,) = network.provers(workers[hurt])
        tasks |= await finished(client, after)

    check_proofs(keys, tasks)
    check_recorded_once(network, tasks)
    assert attempts(network, hurt)[0] == (1, workers[hurt], "failed")
    assert [state for _, _, state in attempts(network, hurt)] == ["failed", "completed"]
    assert attempts(network, spared) == [(1, workers[spared], "completed")]
    assert {worker: network.process(worker).pid for worker in WORKERS} == before
    assert next_prover.pid != prover.pid


async def test_a_worker_that_is_stopped_finishes_its_proof(network: Network, keys: Path) -> None:
    """After SIGTERM a proof that ends within the drain time is reported before the worker exits."""
    async with network.client() as client:
        with frozen(*network.provers(*WORKERS)):
            (task_id,) = await submit(client, submission("merkle_proof"))
            worker = (await under_way(client, task_id)).worker_id or ""
            process = network.process(worker)
            process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(eventually, "draining", lambda: network.health(worker).get("state") == "draining")
        tasks = await finished(client, [task_id])
        await asyncio.to_thread(network.cluster.stop, worker)

    check_proofs(keys, tasks)
    check_recorded_once(network, tasks)
    assert attempts(network, task_id) == [(1, worker, "completed")]
    await asyncio.to_thread(eventually, "the worker ended", lambda: has_ended(process))


async def test_a_worker_that_is_stopped_hands_back_what_it_cannot_finish(network: Network, keys: Path) -> None:
    """A longer proof is released without counting as a retry, and the other worker makes it."""
    async with network.client() as client:
        with frozen(*network.provers(*WORKERS)):
            (task_id,) = await submit(client, submission("merkle_proof"))
            worker = (await under_way(client, task_id)).worker_id or ""
            await asyncio.to_thread(network.cluster.stop, worker)
        tasks = await finished(client, [task_id])

    check_proofs(keys, tasks)
    check_recorded_once(network, tasks)
    assert attempts(network, task_id) == [(1, worker, "released"), (2, other(worker), "completed")]
    assert tasks[task_id].retries == 0


async def test_a_false_statement_fails_once_and_hurts_nobody(network: Network, keys: Path) -> None:
    """Inputs that do not match the public inputs fail without retry or quarantine."""
    before = {worker: network.process(worker).pid for worker in WORKERS}
    async with network.client() as client, network.admin() as admin:
        (lie,) = await submit(client, replace(submission(), public_inputs=("43",)))
        task = (await finished(client, [lie]))[lie]
        tasks = await finished(client, await submit(client, *(submission() for _ in range(6))))
        status = await admin.cluster_status()

    assert (task.state, task.attempt, task.error and task.error.code) == (TaskState.FAILED, 1, "unsatisfied_inputs")
    assert {worker.state for worker in status.workers} == {"online"}
    assert {worker: network.process(worker).pid for worker in WORKERS} == before
    check_proofs(keys, tasks)


async def test_an_input_beyond_the_field_never_reaches_a_worker(network: Network) -> None:
    """The coordinator rejects them by field, even if the client did not check them."""
    good = submission("merkle_proof")
    leaf = b'"leaf":"1018"'
    assert leaf in good.inputs
    async with network.client() as client:
        with pytest.raises(InvalidSubmission) as refused:
            await client.submit(replace(good, inputs=good.inputs.replace(leaf, b'"leaf":"%d"' % ORDER)))
        assert refused.value.field == "inputs.leaf"
        assert network.rows("SELECT id FROM tasks WHERE id = %s", good.task_id) == []


async def test_everybody_knows_the_workers_after_a_failover(network: Network) -> None:
    """A node that was down knows the workers once it is leader."""
    before = network.leader()
    await asyncio.to_thread(network.cluster.kill, before.id)
    after = await asyncio.to_thread(network.cluster.wait_for_leader, other_than=before)
    await asyncio.to_thread(network.cluster.start, before.id)
    await asyncio.to_thread(network.wait_until_ready, before.id)
    async with network.admin() as admin:
        await admin.transfer_leadership(before.id)
        status = await admin.cluster_status()

    assert after.id != before.id
    assert status.leader == before.id
    assert {(worker.id, worker.state) for worker in status.workers} == {(worker, "online") for worker in WORKERS}


def test_a_prover_is_a_child_that_goes_with_its_worker(network: Network) -> None:
    """A worker's child processes end with it."""
    provers = network.provers(*WORKERS)
    for worker in WORKERS:
        network.cluster.kill(worker)

    psutil.wait_procs(provers, timeout=60)

    assert [prover for prover in provers if not has_ended(prover)] == []
