"""What an operator is told: why the database is degraded, and why leadership was not handed over."""

from typing import Any

import grpc
import pytest

from coordinator.errors import NotTransferred
from coordinator.leader.leases import Leases
from coordinator.monitoring.health import Health, RecordStatus
from coordinator.rpc.admin_service import AdminService
from coordinator.rpc.errors import status_of
from coordinator.services.cluster import Cluster, NodeStatus
from coordinator.services.revocations import Revocations
from tests.unit.coordinator.fakes import LocalReplicator, leader
from zkp.client.errors import Conflict
from zkp.client.failures import CallFailed, final_error
from zkp.protocol.v1 import coordinator_pb2 as pb

MEMBERS = [NodeStatus(f"coordinator-{number}", f"r{number}:7000", f"g{number}:9090") for number in (1, 2)]
CONTEXT: Any = None
UNUSED: Any = None


class Ready:
    """A leader that can take work, without workers."""

    ready, connected = True, 0


def service(replicator: LocalReplicator, record: RecordStatus) -> AdminService:
    """The admin service of a node whose projection is as `record` says."""
    cluster = Cluster(MEMBERS, replicator)
    health = Health(replicator, cluster, Ready(), lambda: record, version="1", stopping=lambda: False)
    leases: Leases = UNUSED
    revocations: Revocations = UNUSED
    return AdminService(
        replicator, cluster, leases, health, revocations, clock=lambda: 0.0, now_ms=lambda: 0, version="1"
    )


@pytest.mark.parametrize(
    ("record", "database", "reason"),
    [
        (RecordStatus("ok", 0, ""), "ok", ""),
        (RecordStatus("degraded", 5, "connection refused"), "degraded", "connection refused"),
        (RecordStatus("degraded", 5, ""), "degraded", "PostgreSQL has not been reached yet"),
        (RecordStatus("stopped", 5, "written by another cluster"), "degraded", "written by another cluster"),
        (
            RecordStatus("catching_up", 5, ""),
            "degraded",
            "PostgreSQL answers, and the projection is catching up",
        ),
    ],
)
async def test_a_degraded_database_comes_with_its_reason(record: RecordStatus, database: str, reason: str) -> None:
    """The status carries the leader's reason whenever it says "degraded", and only then."""
    answer = await service(leader(), record).ClusterStatus(pb.ClusterStatusRequest(), CONTEXT)
    assert (answer.database, answer.database_reason) == (database, reason)


async def test_a_transfer_to_a_dead_node_is_refused_at_once_with_the_cause() -> None:
    """The client does not repeat the call until it blames the majority: the refusal is final and names the node."""
    replicator = leader()
    replicator.log.connected = {"coordinator-2": False}
    request = pb.TransferLeadershipRequest(to="coordinator-2")
    with pytest.raises(NotTransferred) as refused:
        await service(replicator, RecordStatus("ok", 0, "")).TransferLeadership(request, CONTEXT)
    status = status_of(refused.value, lambda: None)
    failure = CallFailed(status.code, status.details, dict(status.metadata))
    assert status.code is grpc.StatusCode.FAILED_PRECONDITION
    assert not failure.transient
    assert not failure.not_leader
    error = final_error(failure)
    assert isinstance(error, Conflict)
    assert "coordinator-2 is not connected" in str(error)
