"""What Prometheus reads from a coordinator: one registry, filled by the modules that know their part.

`raft_metrics` knows consensus, `task_metrics` tasks and workers, `record_metrics` PostgreSQL; calls and refusals are
counted here. Gauges are read from the live state at each scrape and cost nothing in between.
"""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.monitoring.health import Health
from coordinator.monitoring.projection import RecordMetrics
from coordinator.monitoring.raft import LinkStatistics, RaftGauges, RaftTimings
from coordinator.monitoring.tasks import TaskMetrics, WorkGauges
from coordinator.replication.replicator import Replicator
from coordinator.state.model import TaskEvent

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """Counters, and the registry that /metrics shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.raft = RaftTimings(self.registry)
        self.record = RecordMetrics(self.registry)
        self.tasks = TaskMetrics(self.registry)
        self._calls = Counter(
            "zkp_rpc_requests",
            "gRPC calls that ended, by method and status. INTERNAL is a bug; see the log.",
            ["method", "code"],
            registry=self.registry,
        )
        self._call_seconds = Histogram(
            "zkp_rpc_request_seconds",
            "Time from the arrival of a unary call to its answer.",
            ["method"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._refusals = Counter(
            "zkp_refused",
            "Connections and calls refused because of the caller's identity, by port and reason. The log "
            "names the callers.",
            ["port", "reason"],
            registry=self.registry,
        )

    def observe(self, events: Sequence[TaskEvent]) -> None:
        """Count what happened. For the leader's events only."""
        self.tasks.observe(events)

    def called(self, method: str, code: str, seconds: float | None = None) -> None:
        """A gRPC call ended; seconds: how long it took, of a call that is no stream."""
        self._calls.labels(method, code).inc()
        if seconds is not None:
            self._call_seconds.labels(method).observe(seconds)

    def refused(self, port: str, reason: str) -> None:
        """Count a refused connection or call. port: "grpc", "raft"."""
        self._refusals.labels(port, reason).inc()

    def watch(self, replicator: Replicator, health: Health, links: LinkStatistics | None = None) -> None:
        """Add the gauges of this node."""
        self.registry.register(RaftGauges(replicator, links))
        self.registry.register(WorkGauges(replicator))
        self.registry.register(_ServiceGauges(health))

    def limits(self, *, pending: int, unprojected: int, time_limit: float) -> None:
        """What the configuration allows, so that alerts can say how near it is; time_limit: seconds."""
        for name, text, value in (
            ("zkp_tasks_pending_limit", "Pending tasks at which submissions are refused.", pending),
            (
                "zkp_projection_backlog_limit_events",
                "Events waiting for PostgreSQL at which submissions are refused.",
                unprojected,
            ),
            ("zkp_task_time_limit_seconds", "How long one attempt may prove.", time_limit),
        ):
            Gauge(name, text, registry=self.registry).set(value)


class _ServiceGauges(Collector):
    """How the node serves."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def describe(self) -> Iterable[Metric]:
        """Nothing: the node may not be up yet when this is registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "zkp_ready",
            "1: this node serves, or sends callers to the leader. 0: load balancers leave it out.",
            1.0 if self._health.can_serve() else 0.0,
        )
        yield GaugeMetricFamily(
            "zkp_projection_lag_events",
            "Events that PostgreSQL does not hold yet, as known to this node.",
            float(self._health.database().backlog),
        )
