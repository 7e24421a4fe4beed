"""The administrative API, against doubles."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import grpc
import pytest

from tests.unit.client import network as doubles
from tests.unit.client.network import A, B, C, Network, follower
from tests.unit.client.virtual_time import run
from zkp.client.admin import AdminClient, ClusterStatus, Node, Revocation, RevocationResult
from zkp.client.errors import NoLeader, NotFound, Refused
from zkp.client.failures import CallFailed
from zkp.protocol.v1 import coordinator_pb2 as pb

ADDRESSES = {"coordinator-1": A, "coordinator-2": B, "coordinator-3": C}


def node(name: str, leader: str, *, term: int = 7, workers: int = 0) -> doubles.Node:
    """A coordinator that reports `leader` as leader and all others as followers."""

    async def status(_: Any) -> pb.ClusterStatusResponse:
        leads = name == leader
        return pb.ClusterStatusResponse(
            answered_by=name,
            leader=leader,
            term=term,
            commit_index=40 if leads else 39,
            last_applied=38,
            nodes=[
                pb.NodeStatus(
                    id=peer,
                    raft_address=f"{peer}:7000",
                    grpc_address=address,
                    role="leader" if peer == leader else "follower" if peer == name or leads else "unknown",
                )
                for peer, address in ADDRESSES.items()
            ],
            workers=[pb.WorkerStatus(id=f"worker-{number}", state="online", capacity=2) for number in range(workers)],
            tasks={"pending": 3},
            database="degraded" if leads else "unknown",
            database_reason="connection refused" if leads else "",
            version="1.0",
        )

    return doubles.Node(ClusterStatus=status)


def ask(network: Network) -> ClusterStatus:
    async def scenario() -> ClusterStatus:
        async with network.connect() as connection:
            return await AdminClient(connection).cluster_status()

    return run(scenario())


def test_the_leaders_view_and_each_nodes_own_word_make_one_picture() -> None:
    """Workers and database come from the leader, indices from each node itself."""
    network = Network({address: node(name, "coordinator-2", workers=2) for name, address in ADDRESSES.items()})
    status = ask(network)
    assert (status.leader, status.term, status.tasks) == ("coordinator-2", 7, {"pending": 3})
    assert (status.database, status.database_reason) == ("degraded", "connection refused")
    assert [worker.id for worker in status.workers] == ["worker-0", "worker-1"]
    assert [(each.id, each.role, each.commit_index, each.term) for each in status.nodes] == [
        ("coordinator-1", "follower", 39, 7),
        ("coordinator-2", "leader", 40, 7),
        ("coordinator-3", "follower", 39, 7),
    ]


def test_a_node_that_is_down_shows_as_unreachable() -> None:
    """Its row has the reason, and its name from the other nodes' reports."""
    network = Network({A: node("coordinator-1", "coordinator-1"), B: node("coordinator-2", "coordinator-1")})
    assert ask(network).nodes[2] == Node(
        id="coordinator-3",
        role="unreachable",
        raft_address="coordinator-3:7000",
        grpc_address=C,
        problem="connection refused",
    )


def test_the_newest_term_wins() -> None:
    """A node that is partitioned in an old term does not determine the leader."""
    network = Network({A: node("coordinator-1", "coordinator-1", term=5), B: node("coordinator-2", "coordinator-2")})
    status = ask(network)
    assert (status.leader, status.term) == ("coordinator-2", 7)
    assert [each.role for each in status.nodes[:2]] == ["leader", "leader"]  # each says so itself, in its term
    assert [each.term for each in status.nodes[:2]] == [5, 7]


def test_a_hanging_node_does_not_hold_up_the_others() -> None:
    """It is reported as unreachable after a few seconds."""

    async def hang(_: Any) -> Any:
        await asyncio.sleep(3600)

    network = Network(
        {A: node("coordinator-1", "coordinator-1"), B: doubles.Node(ClusterStatus=hang)},
    )
    status = ask(network)
    assert status.nodes[1].role == "unreachable"
    assert "Deadline" in status.nodes[1].problem


def test_no_answer_is_an_error_with_every_reason() -> None:
    """The error lists each address with its result."""
    with pytest.raises(NoLeader, match=rf"{A}: connection refused.*{C}: connection refused"):
        ask(Network({}))


def test_a_rejected_certificate_is_an_error() -> None:
    """A rejected certificate is an error, not an unreachable node."""

    async def refuse(_: Any) -> Any:
        raise CallFailed(grpc.StatusCode.PERMISSION_DENIED, "needs the role admin")

    with pytest.raises(Refused, match="needs the role admin"):
        ask(Network({A: doubles.Node(ClusterStatus=refuse)}))


def test_commands_go_to_the_leader() -> None:
    """Leadership transfers and worker releases are sent to the leader."""

    async def transfer(request: pb.TransferLeadershipRequest) -> pb.TransferLeadershipResponse:
        return pb.TransferLeadershipResponse(leader=request.to)

    async def release(request: pb.ReleaseWorkerRequest) -> pb.ReleaseWorkerResponse:
        if request.worker_id != "worker-1":
            raise CallFailed(grpc.StatusCode.NOT_FOUND, f"there is no worker {request.worker_id!r}")
        return pb.ReleaseWorkerResponse()

    network = Network({A: follower(B), B: doubles.Node(TransferLeadership=transfer, ReleaseWorker=release)})

    async def scenario() -> None:
        async with network.connect(A, B) as connection:
            admin = AdminClient(connection)
            assert await admin.transfer_leadership("coordinator-3") == "coordinator-3"
            await admin.release_worker("worker-1")
            with pytest.raises(NotFound, match="no worker 'worker-9'"):
                await admin.release_worker("worker-9")

    run(scenario())


class Leading:
    """Two nodes that transfer leadership to each other, and a network that loses the first response."""

    def __init__(self) -> None:
        self.leader, self.term = "coordinator-1", 7
        self.moves = 0
        self.answers_lost = 1
        self.network = Network({A: self._node("coordinator-1", B), B: self._node("coordinator-2", A)})

    def _node(self, name: str, other: str) -> doubles.Node:
        async def status(_: Any) -> pb.ClusterStatusResponse:
            return pb.ClusterStatusResponse(answered_by=name, leader=self.leader, term=self.term)

        async def transfer(request: pb.TransferLeadershipRequest) -> pb.TransferLeadershipResponse:
            if self.leader != name:
                raise doubles.not_leader(other)
            if not (request.to or request.term >= self.term):
                return pb.TransferLeadershipResponse(leader=name)
            if request.to != name:
                self.leader = request.to or {"coordinator-1": "coordinator-2"}.get(name, "coordinator-1")
                self.term += 1
                self.moves += 1
            if self.answers_lost:
                self.answers_lost -= 1
                raise CallFailed(grpc.StatusCode.UNAVAILABLE, "connection lost")
            return pb.TransferLeadershipResponse(leader=self.leader)

        return doubles.Node(ClusterStatus=status, TransferLeadership=transfer)


@pytest.mark.parametrize("to", ["", "coordinator-2"])
def test_a_retried_transfer_moves_leadership_once(to: str) -> None:
    """The first leader's response is lost; the retry reaches the second leader, which keeps its leadership."""
    leading = Leading()

    async def scenario() -> str:
        async with leading.network.connect(A, B) as connection:
            return await AdminClient(connection).transfer_leadership(to)

    assert run(scenario()) == "coordinator-2"
    assert leading.moves == 1


def test_many_certificates_are_revoked_in_several_requests() -> None:
    """Each request holds the maximum number, and the numbers of new revocations are added."""
    requests: list[pb.RevokeCertificatesRequest] = []

    async def revoke(request: pb.RevokeCertificatesRequest) -> pb.RevokeCertificatesResponse:
        requests.append(request)
        return pb.RevokeCertificatesResponse(
            revoked=len(request.certificates) - 1,
            revocations=[pb.Revocation(serial=one.serial) for one in request.certificates],
        )

    network = Network({A: follower(B), B: doubles.Node(RevokeCertificates=revoke)})
    wanted = [(f"{number:x}", "superseded") for number in range(1, 2_302)]

    async def scenario() -> RevocationResult:
        async with network.connect(A, B) as connection:
            return await AdminClient(connection).revoke(wanted)

    result = run(scenario())
    assert result.new == 2_301 - 3
    assert [one.serial for one in result.revocations] == [serial for serial, _ in wanted]
    assert [len(request.certificates) for request in requests] == [1_000, 1_000, 301]
    assert [(one.serial, one.reason) for request in requests for one in request.certificates] == wanted


def test_revocations_are_listed_page_by_page() -> None:
    """All revocations are returned in order with their times."""

    async def page(request: pb.ListRevocationsRequest) -> pb.ListRevocationsResponse:
        first = request.after_revision + 1
        found = [pb.Revocation(serial=f"{n:x}", revision=n) for n in range(first, min(first + 1_000, 1_501))]
        found[0].revoked_at.FromSeconds(60)
        return pb.ListRevocationsResponse(revocations=found)

    network = Network({A: doubles.Node(ListRevocations=page)})

    async def scenario() -> list[Revocation]:
        async with network.connect(A) as connection:
            return await AdminClient(connection).revocations()

    found = run(scenario())
    assert [one.serial for one in found] == [f"{number:x}" for number in range(1, 1_501)]
    assert found[0].revoked_at == datetime(1970, 1, 1, 0, 1, tzinfo=UTC)
    assert found[1].revoked_at is None
