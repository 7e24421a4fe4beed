"""What /health and /ready say."""

import json
from dataclasses import dataclass, field

import pytest

from coordinator.monitoring.health import Health, RecordStatus
from coordinator.monitoring.registry import Metrics
from coordinator.services.cluster import Cluster, NodeStatus
from tests.unit.coordinator.fakes import LocalReplicator, assign, register, submit
from tests.unit.coordinator.fakes import leader as new_leader

MEMBERS = [NodeStatus(f"coordinator-{n}", f"10.0.0.{n}:7000", f"10.0.0.{n}:9090") for n in (1, 2, 3)]


@dataclass
class LeaderSide:
    ready: bool = True
    connected: int = 1


@dataclass
class Watched:
    """A node and what is said of it."""

    replicator: LocalReplicator
    side: LeaderSide
    record: RecordStatus = field(default_factory=lambda: RecordStatus("ok", 0, ""))
    stopping: bool = False

    def __post_init__(self) -> None:
        self.cluster = Cluster(MEMBERS, self.replicator)
        self.health = Health(
            self.replicator,
            self.cluster,
            self.side,
            lambda: self.record,
            version="1.2.3",
            stopping=lambda: self.stopping,
        )


@pytest.fixture
def node() -> Watched:
    replicator = new_leader()
    replicator.log.connected = {"coordinator-2": True, "coordinator-3": False}
    return Watched(replicator, LeaderSide())


def test_a_leader_that_serves_is_ok(node: Watched) -> None:
    """Every field that operators read is there, as JSON."""
    register(node.replicator, "worker-1")
    ok, body = node.health.health()
    assert ok
    raft = {
        "state": "leader",
        "membership": "a double of a cluster",
        "is_leader": True,
        "leader": "coordinator-1",
        "term": 1,
        "commit_index": 4,
        "last_applied": 4,
        "peers": {
            "coordinator-2": {"connected": True, "match_index": 4},
            "coordinator-3": {"connected": False, "match_index": 4},
        },
    }
    assert json.loads(json.dumps(body)) == {
        "status": "ok",
        "daemon": "coordinator",
        "id": "coordinator-1",
        "version": "1.2.3",
        "raft": raft,
        "database": {"status": "ok", "backlog": 0},
        "workers": {"online": 1, "offline": 0, "quarantined": 0, "connected": 1},
    }


@pytest.mark.parametrize(
    ("record", "overall"), [("ok", "ok"), ("catching_up", "ok"), ("degraded", "degraded"), ("stopped", "degraded")]
)
def test_a_record_that_is_away_degrades_the_leader_and_does_not_stop_it(
    node: Watched, record: str, overall: str
) -> None:
    """Tasks are still accepted and proved."""
    node.record = RecordStatus(record, 17, "connection refused")
    ok, body = node.health.health()
    assert ok
    assert body["status"] == overall
    assert body["database"] == {"status": record, "backlog": 17, "error": "connection refused"}


def test_a_follower_that_knows_the_leader_is_ok(node: Watched) -> None:
    """It can send callers on; of the database it knows nothing."""
    node.replicator.depose("coordinator-2")
    node.record = RecordStatus("stopped", 0, "")
    ok, body = node.health.health()
    assert ok
    assert body["status"] == "ok"
    assert body["database"]["status"] == "unknown"  # type: ignore[index]
    assert node.health.ready() == (
        True,
        {
            "status": "ok",
            "ready": True,
            "daemon": "coordinator",
            "id": "coordinator-1",
            "version": "1.2.3",
            "leader": "coordinator-2",
            "is_leader": False,
        },
    )


def test_a_node_without_a_leader_is_unavailable(node: Watched) -> None:
    """/health and /ready answer 503 while the node cannot serve."""
    node.replicator.depose(None)
    ok, body = node.health.health()
    assert not ok
    assert body["status"] == "unavailable"
    assert node.health.ready()[0] is False


def test_a_leader_that_has_not_prepared_is_not_ready_yet(node: Watched) -> None:
    """Its circuits may not be pinned."""
    node.side.ready = False
    assert node.health.ready()[0] is False
    assert node.health.health()[0] is False


def test_a_node_that_stops_is_not_ready(node: Watched) -> None:
    """Load balancers look elsewhere before it is gone."""
    node.stopping = True
    assert node.health.ready()[0] is False


def test_the_roles_of_the_members_are_those_that_this_node_can_know(node: Watched) -> None:
    """A peer that is not connected is unreachable; without a leader the role of a peer is unknown."""
    assert node.cluster.roles() == {
        "coordinator-1": "leader",
        "coordinator-2": "follower",
        "coordinator-3": "unreachable",
    }
    node.replicator.depose("coordinator-2")
    assert node.cluster.roles()["coordinator-2"] == "leader"
    assert node.cluster.roles()["coordinator-1"] == "follower"
    node.replicator.depose(None)
    assert node.cluster.roles()["coordinator-2"] == "unknown"


def test_callers_are_never_sent_back_to_the_node_that_sends_them_away(node: Watched) -> None:
    """A node that is about to lead, or transfers leadership, names no leader rather than itself."""
    assert node.cluster.leader_address() is None
    node.replicator.depose("coordinator-2")
    assert node.cluster.leader_address() == "10.0.0.2:9090"
    node.replicator.depose("coordinator-9")
    assert node.cluster.leader_address() is None


def test_metrics_show_the_node_as_it_is_at_the_scrape(node: Watched) -> None:
    """Gauges are read at each scrape."""
    metrics = Metrics()
    metrics.watch(node.replicator, node.health)
    register(node.replicator, "worker-1", capacity=4)
    submit(node.replicator, "a")
    submit(node.replicator, "b")
    assign(node.replicator, "a", "worker-1")
    node.record = RecordStatus("degraded", 17, "")
    metrics.called("/zkp.v1.TaskService/GetTask", "OK")
    metrics.refused("grpc", "forbidden")
    expected = {
        ("zkp_raft_is_leader",): 1,
        ("zkp_raft_role", "role", "leader"): 1,
        ("zkp_raft_role", "role", "follower"): 0,
        ("zkp_raft_term",): 1,
        ("zkp_raft_peer_connected", "peer", "coordinator-3"): 0,
        ("zkp_tasks", "circuit", "addition", "state", "pending"): 1,
        ("zkp_tasks", "circuit", "addition", "state", "assigned"): 1,
        ("zkp_workers", "state", "online"): 1,
        ("zkp_worker_slots",): 4,
        ("zkp_worker_slots_busy",): 1,
        ("zkp_projection_lag_events",): 17,
        ("zkp_ready",): 1,
        ("zkp_refused_total", "port", "grpc", "reason", "forbidden"): 1,
        ("zkp_rpc_requests_total", "code", "OK", "method", "/zkp.v1.TaskService/GetTask"): 1,
    }
    for (name, *labels), value in expected.items():
        pairs = dict(zip(labels[::2], labels[1::2], strict=True))
        assert metrics.registry.get_sample_value(name, pairs) == value, name
