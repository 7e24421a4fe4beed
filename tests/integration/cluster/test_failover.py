"""Coordinators that are killed, suspended, restarted or transfer leadership: accepted tasks complete exactly once."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.cluster.network import OUTAGE_S, WAIT_TIMEOUT_S, Network, eventually, frozen, running
from tests.integration.cluster.work import (
    Load,
    check_proofs,
    check_recorded_once,
    finished,
    submission,
    submit,
    under_way,
)
from zkp.client.model import TaskState
from zkp.localcluster.layout import COORDINATORS
from zkp.localcluster.process import python_module

WORKERS = ("worker-1", "worker-2")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[Network]:
    """The network of this module."""
    with running(tmp_path_factory.mktemp("failover"), keys, variables={"COORDINATOR_TASKS_LEASE": "5s"}) as network:
        yield network


@pytest.fixture
def network(shared: Network) -> Network:
    """The module's network, with every process running."""
    shared.cluster.up()
    shared.agreed()
    return shared


def terms_in_order_of_assignment(network: Network) -> list[int]:
    """Return the terms of all attempts, in start order."""
    return [row["term"] for row in network.rows("SELECT term FROM attempts ORDER BY assigned_at, term")]


async def test_sixty_tasks_survive_their_leader(network: Network, keys: Path) -> None:
    """Each is completed with one accepted result, Postgres holds the same 60 once, and no attempt of the dead
    leader's term is written after the first of the new one's."""
    wanted = [submission("range_proof") for _ in range(50)] + [submission("merkle_proof") for _ in range(10)]
    async with network.client() as client, network.admin() as admin:
        ids = await submit(client, *wanted)
        await finished(client, ids[:3])
        with frozen(*network.provers(*WORKERS)):  # so that what is queued now is queued when the leader dies
            before = await asyncio.to_thread(network.leader)
            queued = (await admin.cluster_status()).tasks[TaskState.PENDING]
            await asyncio.to_thread(network.cluster.kill, before.id)
            after = await asyncio.to_thread(network.cluster.wait_for_leader, WAIT_TIMEOUT_S, other_than=before)
        tasks = await finished(client, ids)

    assert len(tasks) == 60
    assert queued > 30
    assert after.id != before.id
    check_proofs(keys, tasks)
    check_recorded_once(network, tasks)
    assert network.rows("SELECT count(*) AS tasks FROM tasks WHERE id = ANY(%s)", ids) == [{"tasks": 60}]
    terms = terms_in_order_of_assignment(network)
    assert terms == sorted(terms)
    assert terms[0] <= before.term < after.term <= terms[-1]


async def test_a_leader_that_slept_through_its_deposition_writes_nothing(network: Network, keys: Path) -> None:
    """A deposed leader that resumes writes nothing and follows; terms in the database do not decrease."""
    before = network.leader()
    async with network.client() as client:
        with frozen(network.process(before.id)):
            after = await asyncio.to_thread(network.cluster.wait_for_leader, WAIT_TIMEOUT_S, other_than=before)
            meanwhile = await submit(client, *(submission() for _ in range(10)))
            await finished(client, meanwhile)
        leader, term = await asyncio.to_thread(network.agreed)
        tasks = await finished(client, [*meanwhile, *await submit(client, submission())])

    assert leader != before.id
    assert term >= after.term > before.term
    check_proofs(keys, tasks)
    check_recorded_once(network, tasks)
    terms = terms_in_order_of_assignment(network)
    assert terms == sorted(terms)


def test_the_record_refuses_the_term_of_a_deposed_leader(network: Network) -> None:
    """The trigger rejects an old term from any session."""
    (position,) = network.rows("SELECT term FROM projection")
    before = network.rows("SELECT * FROM attempts ORDER BY task_id, attempt")

    with network.connect() as connection:
        connection.execute("SELECT set_config('zkp.term', %s, true)", [str(position["term"] - 1)])
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match=f"leader of term {position['term']}"):
            connection.execute("UPDATE attempts SET worker_id = 'somebody'")
        connection.rollback()

    assert network.rows("SELECT * FROM attempts ORDER BY task_id, attempt") == before


def test_only_the_leader_has_a_writing_session(network: Network) -> None:
    """Followers have read-only sessions."""
    leader = network.leader()

    def writers() -> set[str]:
        sessions = network.rows("SELECT application_name AS name FROM pg_stat_activity WHERE datname = 'postgres'")
        return {row["name"].removesuffix(" writer") for row in sessions if row["name"].endswith(" writer")}

    eventually("the leader's session", lambda: writers() == {leader.id})


def test_a_lone_survivor_says_that_it_cannot_serve(network: Network) -> None:
    """Without a majority /health and /ready are 503; with it again they are 200 everywhere."""
    survivor, *others = COORDINATORS
    for name in others:
        network.cluster.kill(name)
    health = eventually(
        "no service", lambda: network.health(survivor) if network.health(survivor)["code"] == 503 else None
    )
    ready = network.https().get(network.address(survivor, "health"), "/ready")

    network.cluster.up()

    assert (health["status"], health["raft"]["is_leader"], ready.status) == ("unavailable", False, 503)
    assert {network.health(name)["code"] for name in COORDINATORS} == {200}


async def test_a_rolling_restart_under_load_loses_nothing(network: Network, keys: Path) -> None:
    """Each coordinator is restarted in turn, the leader last, under load."""
    leader = network.leader()
    order = [name for name in COORDINATORS if name != leader.id] + [leader.id]
    async with network.client() as client:
        async with Load(client) as load:
            for name in order:
                await load.more(5)
                await asyncio.to_thread(network.cluster.stop, name)
                await load.more(5)
                await asyncio.to_thread(network.cluster.start, name)
                await asyncio.to_thread(network.wait_until_ready, name)
            await load.more(5)
        tasks = await finished(client, load.accepted)

    assert len(tasks) >= 35
    check_proofs(keys, tasks)
    check_recorded_once(network, tasks)


async def test_leadership_is_handed_over_on_request(network: Network, keys: Path) -> None:
    """`zkp admin transfer` makes the named node leader in the next term, under load."""
    before = network.leader()
    heir = next(name for name in COORDINATORS if name != before.id)
    command = python_module("zkp.cli", "admin", "transfer", "--to", heir, "--dir", str(network.layout.root))
    async with network.client() as client:
        async with Load(client) as load:
            await load.more(5)
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
            await load.more(5)
        tasks = await finished(client, load.accepted)

    assert (done.returncode, done.stdout, done.stderr) == (0, f"new leader: {heir}\n", "")
    leader, term = network.agreed()
    assert leader == heir
    assert term > before.term
    check_proofs(keys, tasks)
    check_recorded_once(network, tasks)


async def test_every_acknowledged_task_survives_the_death_of_everything(network: Network, keys: Path) -> None:
    """All processes, with PostgreSQL, are killed under load and restarted."""
    async with network.client() as client:
        async with Load(client) as load:
            slow = await submit(client, *(submission("merkle_proof") for _ in range(4)))  # keeps the workers busy
            await load.more(30)
            await asyncio.to_thread(network.kill_everything)
            before = [*slow, *load.accepted]
            await asyncio.to_thread(network.cluster.up)
            await load.more(5)
        tasks = await finished(client, [*slow, *load.accepted])

    assert len(before) >= 34
    assert tasks.keys() >= set(before)
    check_proofs(keys, tasks)
    check_recorded_once(network, tasks)


async def test_finished_proofs_wait_for_the_coordinators(network: Network, keys: Path) -> None:
    """Workers that finish without a leader keep their proofs until one is elected, and do not prove again."""
    async with network.client() as client:
        with frozen(*network.provers(*WORKERS)):
            ids = await submit(client, submission("merkle_proof"), submission("merkle_proof"))
            provers = {task_id: (await under_way(client, task_id)).worker_id for task_id in ids}
            for name in COORDINATORS:
                await asyncio.to_thread(network.cluster.kill, name)
        await asyncio.to_thread(eventually, "a finished proof at each worker", lambda: each_holds_a_proof(network))
        await asyncio.sleep(OUTAGE_S)
        assert each_holds_a_proof(network)
        await asyncio.to_thread(network.cluster.up)
        tasks = await finished(client, ids)

    assert set(provers.values()) == set(WORKERS)
    assert {task.id: (task.attempt, task.worker_id) for task in tasks.values()} == {
        task_id: (1, worker) for task_id, worker in provers.items()
    }
    check_proofs(keys, tasks)
    check_recorded_once(network, tasks)


def each_holds_a_proof(network: Network) -> bool:
    """Return whether every worker has finished and holds unacknowledged proofs."""
    reports = [network.health(worker) for worker in WORKERS]
    return all((report.get("held"), report.get("proving")) == (1, 0) for report in reports)
