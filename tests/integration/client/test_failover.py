"""The client library across failovers: real gRPC and mutual TLS, fake coordinators."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from pki.x509.identity import Role
from tests.integration.fakes.coordinators import Cluster, Network, within
from zkp.client.admin import AdminClient
from zkp.client.errors import Conflict, NotFound, Refused
from zkp.client.leader import LeaderConnection
from zkp.client.model import Accepted, Submission, TaskState
from zkp.client.tasks import TaskClient
from zkp.protocol.v1 import coordinator_pb2 as pb


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    """Three coordinators; the first is the leader."""
    async with Cluster(Network(tmp_path)) as cluster:
        yield cluster


@pytest.fixture
async def connection(cluster: Cluster, tmp_path: Path) -> AsyncIterator[LeaderConnection]:
    """A client's connection to the coordinators."""
    material = cluster.network.material("client-1", Role.CLIENT)
    async with LeaderConnection(cluster.addresses, material) as connection:
        yield connection


def submission(number: int) -> Submission:
    return Submission(f"t-{number}", "addition", b"{}", ("5",))


@pytest.mark.parametrize("leader", [0, 1, 2])
async def test_the_leader_is_found_anywhere(cluster: Cluster, connection: LeaderConnection, leader: int) -> None:
    """Followers redirect the client, and it stays with the leader."""
    cluster.lead(leader)
    accepted = await TaskClient(connection).submit(submission(1))
    assert accepted.task.state is TaskState.PENDING
    assert not accepted.duplicate
    assert connection.leader == cluster.addresses[leader]


async def test_a_submission_finds_the_leader_after_the_old_one_died(
    cluster: Cluster, connection: LeaderConnection
) -> None:
    """The leader disappears, and followers still name it for some time."""
    client = TaskClient(connection)
    await client.submit(submission(1))
    await cluster.nodes[0].stop()
    submitting = asyncio.create_task(client.submit(submission(2)))
    await cluster.until(lambda: cluster.records.refused)  # a follower has named the dead leader
    cluster.lead(2)
    assert (await within(submitting)).task.id == "t-2"
    assert connection.leader == cluster.addresses[2]


async def test_a_deposed_leader_sends_the_client_on(cluster: Cluster, connection: LeaderConnection) -> None:
    """A deposed leader redirects the client."""
    client = TaskClient(connection)
    await client.submit(submission(1))
    cluster.lead(1)
    assert (await client.get("t-1")).id == "t-1"
    assert connection.leader == cluster.addresses[1]


async def test_nothing_is_lost_or_doubled_when_the_leader_dies_in_the_stream(
    cluster: Cluster, connection: LeaderConnection
) -> None:
    """All of 400 streamed submissions are accepted and answered in order across a leader failure."""

    async def kill_the_leader() -> None:
        await cluster.until(lambda: len(cluster.tasks) >= 50)
        await cluster.nodes[0].stop()
        cluster.lead(1)

    killing = asyncio.create_task(kill_the_leader())
    submissions = [submission(number) for number in range(400)]
    outcomes = [outcome async for outcome in TaskClient(connection).submit_many(submissions, window=32)]
    await killing
    assert [asked.task_id for asked, _ in outcomes] == [f"t-{number}" for number in range(400)]
    assert all(isinstance(outcome, Accepted) and outcome.task.id == asked.task_id for asked, outcome in outcomes)
    assert len(cluster.tasks) == 400


async def test_submitting_again_is_the_same_task(connection: LeaderConnection) -> None:
    """The id is the idempotency key."""
    client = TaskClient(connection)
    await client.submit(submission(1))
    assert (await client.submit(submission(1))).duplicate


async def test_a_watch_goes_on_at_the_next_leader(cluster: Cluster, connection: LeaderConnection) -> None:
    """A watch yields every later state once, in order, across two failovers."""
    client = TaskClient(connection)
    await client.submit(submission(1))
    task = cluster.tasks["t-1"]
    seen: list[tuple[TaskState, int]] = []

    async def watch() -> None:
        async for version in client.watch("t-1"):
            seen.append((version.state, version.revision))
            cluster.changed()

    watching = asyncio.create_task(watch())
    await cluster.until(lambda: len(seen) == 1)
    await cluster.nodes[0].stop()
    cluster.lead(1)
    task.state = pb.TASK_STATE_ASSIGNED
    cluster.touch(task)
    await cluster.until(lambda: len(seen) == 2)
    cluster.lead(2)
    task.state = pb.TASK_STATE_COMPLETED
    cluster.touch(task)
    await within(watching)
    assert [state for state, _ in seen] == [TaskState.PENDING, TaskState.ASSIGNED, TaskState.COMPLETED]
    assert [revision for _, revision in seen] == sorted({revision for _, revision in seen})


async def test_refusals_arrive_as_errors(cluster: Cluster, connection: LeaderConnection) -> None:
    """Exceptions carry the coordinator's message."""
    client = TaskClient(connection)
    with pytest.raises(NotFound, match="there is no task 'nothing'"):
        await client.get("nothing")
    cluster.quarantined["client-1"] = "for a test"
    with pytest.raises(Refused, match="quarantined: for a test"):
        await client.get("nothing")


async def test_a_stopped_cluster_is_survived(cluster: Cluster, connection: LeaderConnection) -> None:
    """A call during an outage of all coordinators succeeds once they are back."""
    client = TaskClient(connection, timeout=60)
    await client.submit(submission(1))
    await asyncio.gather(*(node.stop() for node in cluster.nodes))
    asking = asyncio.create_task(client.get("t-1"))
    await asyncio.sleep(0)
    await asyncio.gather(*(node.start() for node in cluster.nodes))
    assert (await within(asking)).id == "t-1"


async def test_status_shows_a_node_that_is_down(cluster: Cluster, connection: LeaderConnection) -> None:
    """Each node is queried; one that is down is unreachable, with the reason."""
    await cluster.nodes[1].stop()
    status = await AdminClient(connection).cluster_status()
    assert [(node.id, node.role) for node in status.nodes] == [
        ("coordinator-1", "leader"),
        ("coordinator-2", "unreachable"),
        ("coordinator-3", "follower"),
    ]
    assert status.nodes[1].problem == "connection refused"


async def test_leadership_is_handed_over(cluster: Cluster, connection: LeaderConnection) -> None:
    """A transfer reaches the leader through any node, and later calls go to the new leader."""
    assert await AdminClient(connection).transfer_leadership("coordinator-3") == "coordinator-3"
    await TaskClient(connection).submit(submission(1))
    assert connection.leader == cluster.addresses[2]


async def test_a_conflict_is_no_redirect(cluster: Cluster, connection: LeaderConnection) -> None:
    """A task's own FAILED_PRECONDITION ends the call."""
    cluster.refusals["CancelTask"] = (grpc.StatusCode.FAILED_PRECONDITION, "task t-1 has completed")
    with pytest.raises(Conflict, match="t-1 has completed"):
        await TaskClient(connection).cancel("t-1")
