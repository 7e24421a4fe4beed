"""What the coordinators count: named as Prometheus wants it, with labels that cannot grow without bound."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from coordinator.monitoring.health import Health, RecordStatus
from coordinator.monitoring.projection import RecordGauges
from coordinator.monitoring.raft import Timing
from coordinator.monitoring.registry import Metrics
from coordinator.monitoring.tasks import OTHER, REASONS, TaskMetrics
from coordinator.raft import SnapshotFile
from coordinator.services.cluster import Cluster, NodeStatus
from coordinator.state.commands import Fail, LoseLease
from coordinator.store import ConnectionPool
from tests.unit.coordinator.fakes import LocalReplicator, assign, leader, register, submit
from zkp.proofs import circuits


class Runner:
    """What a Raft runner says beyond its status."""

    leader_changes = 3

    def round_trips(self) -> dict[str, float]:
        return {"coordinator-2": 0.0005}

    def snapshot_file(self) -> SnapshotFile | None:
        return SnapshotFile(4096, 0.0)


class Leading:
    """A leader that takes work."""

    ready = True
    connected = 1


class Projection:
    """A projector that lags."""

    status = "degraded"
    connected = False
    lagging_since_ms: int | None = 0


@pytest.fixture
def replicator() -> LocalReplicator:
    """A leader with one worker of two slots."""
    found = leader()
    register(found, "worker-1", capacity=2)
    return found


@pytest.fixture
def tasks(replicator: LocalReplicator) -> CollectorRegistry:
    """What its task metrics show."""
    registry = CollectorRegistry()
    replicator.on_events(TaskMetrics(registry).observe)
    return registry


def count(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def test_counters_begin_at_zero(tasks: CollectorRegistry) -> None:
    """A counter that appears with its first increment hides just that one from `increase`, and so from an alert."""
    for circuit in circuits.NAMES:
        assert count(tasks, "zkp_proofs_checked_total", circuit=circuit, outcome="false") == 0
        assert count(tasks, "zkp_tasks_failed_total", circuit=circuit, reason="timeout") == 0
    assert count(tasks, "zkp_lease_losses_total", reason="lease_lost") == 0


def test_a_failure_counts_by_reason(replicator: LocalReplicator, tasks: CollectorRegistry) -> None:
    """Retries while they last, then a failure; what a worker invents counts as "other"."""
    submit(replicator, "a", max_retries=1)
    for attempt in (1, 2):
        assign(replicator, "a", "worker-1")
        replicator.apply(Fail("a", "worker-1", attempt, "out_of_memory", "", retryable=True, released=False))
    submit(replicator, "b", max_retries=0)
    assign(replicator, "b", "worker-1")
    replicator.apply(Fail("b", "worker-1", 1, "made_up_code_17", "", retryable=True, released=False))
    assert count(tasks, "zkp_task_retries_total", circuit="addition", reason="out_of_memory") == 1
    assert count(tasks, "zkp_tasks_failed_total", circuit="addition", reason="out_of_memory") == 1
    assert count(tasks, "zkp_tasks_failed_total", circuit="addition", reason=OTHER) == 1
    assert "made_up_code" not in generate_latest(tasks).decode()
    assert count(tasks, "zkp_attempts_ended_total", state="failed") == 3


def test_a_lost_lease_counts_by_reason(replicator: LocalReplicator, tasks: CollectorRegistry) -> None:
    """An attempt that was taken back is no failure of the task."""
    submit(replicator, "a")
    assign(replicator, "a", "worker-1")
    replicator.apply(LoseLease("a", 1, "timeout", "no result"))
    assert count(tasks, "zkp_lease_losses_total", reason="timeout") == 1
    assert count(tasks, "zkp_tasks_finished_total", circuit="addition", state="failed") == 0


def test_the_queue_wait_is_that_of_the_first_assignment(
    replicator: LocalReplicator, tasks: CollectorRegistry
) -> None:
    """A second attempt waits for other reasons."""
    submit(replicator, "a")
    replicator.now_ms += 3_000
    for _ in range(2):
        assign(replicator, "a", "worker-1")
        replicator.apply(LoseLease("a", replicator.state.tasks["a"].attempt, "timeout", ""))
        replicator.now_ms += 60_000
    assert count(tasks, "zkp_task_queue_wait_seconds_count", circuit="addition") == 1
    assert count(tasks, "zkp_task_queue_wait_seconds_sum", circuit="addition") == pytest.approx(3, abs=0.1)


def test_every_metric_is_named_and_explained(replicator: LocalReplicator) -> None:
    """Base units, counters in _total, a help text that ends as a sentence does."""
    metrics = Metrics()
    metrics.limits(pending=10, unprojected=20, time_limit=30)
    leads = Health(
        replicator,
        Cluster([NodeStatus("coordinator-1", "10.0.0.1:7000", "10.0.0.1:9090")], replicator),
        Leading(),
        lambda: RecordStatus("ok", 0, ""),
        version="1",
        stopping=lambda: False,
    )
    metrics.watch(replicator, leads, Runner())
    metrics.registry.register(RecordGauges(Projection(), lambda: ConnectionPool(1, 2, 7), lambda: 5, lambda: True))
    submit(replicator, "a")
    found = {metric.name: metric for metric in metrics.registry.collect()}
    assert len(found) > 45
    for name, metric in found.items():
        assert name.startswith("zkp_"), name
        assert metric.documentation.endswith("."), name
        assert not name.endswith(("_ms", "_milliseconds", "_percent", "_kb")), name
        if metric.type == "histogram":
            assert name.endswith("_seconds"), name
        if metric.type == "counter":
            assert {sample.name for sample in metric.samples} <= {f"{name}_total", f"{name}_created"}, name
    assert count(metrics.registry, "zkp_raft_leader_changes_total") == 3
    assert count(metrics.registry, "zkp_raft_snapshot_size_bytes") == 4096
    assert count(metrics.registry, "zkp_raft_peer_round_trip_seconds", peer="coordinator-2") == 0.0005
    assert count(metrics.registry, "zkp_postgres_up") == 0
    assert count(metrics.registry, "zkp_projection_status", status="degraded") == 1
    assert (count(metrics.registry, "zkp_projection_lag_seconds") or 0) > 1e9
    assert count(metrics.registry, "zkp_circuit_workers", circuit="addition") == 1
    assert count(metrics.registry, "zkp_circuit_workers", circuit="range_proof") == 0


def test_followers_say_nothing_of_the_record() -> None:
    """They do not write it: an alert about them would be about nothing."""
    registry = CollectorRegistry()
    registry.register(RecordGauges(Projection(), lambda: ConnectionPool(0, 0, 7), lambda: 5, lambda: False))
    assert count(registry, "zkp_projection_backlog_events") == 5
    assert count(registry, "zkp_postgres_up") is None
    assert count(registry, "zkp_projection_lag_seconds") is None


def test_postgres_is_timed_and_its_errors_counted() -> None:
    """A failure takes time too."""
    metrics = Metrics()
    with metrics.record.query_timer("read"):
        pass
    with pytest.raises(ConnectionError), metrics.record.query_timer("read"):
        raise ConnectionError
    metrics.record.wrote(17)
    assert count(metrics.registry, "zkp_postgres_query_seconds_count", operation="read") == 2
    assert count(metrics.registry, "zkp_postgres_errors_total", operation="read") == 1
    assert count(metrics.registry, "zkp_projection_events_total") == 17


def test_known_reasons_are_those_that_exist() -> None:
    """The label "other" is for reasons of other software."""
    assert OTHER not in REASONS
    assert all(reason.replace("_", "").isalpha() for reason in REASONS)


@pytest.mark.parametrize("observed", [1, 999, 1_000, 2_500])
def test_a_timing_counts_each_observation_once(observed: int) -> None:
    """However many come between two readings, and however often it is read."""
    registry = CollectorRegistry()
    timing = Timing("zkp_example_seconds", "An example.", registry)

    for _ in range(observed):
        timing.observe(0.0007)
    generate_latest(registry)
    timing.observe(0.3)

    assert registry.get_sample_value("zkp_example_seconds_count") == observed + 1
    assert registry.get_sample_value("zkp_example_seconds_bucket", {"le": "0.001"}) == observed
    assert registry.get_sample_value("zkp_example_seconds_sum") == pytest.approx(observed * 0.0007 + 0.3)
