"""Projection metrics: its lag behind the replicated state, and PostgreSQL's latency and errors.

Only the leader writes the projection, so that metrics of its status and `zkp_postgres_up` exist on the leader only.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.store import ConnectionPool, StoreObserver

_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 30)
_STATUSES = ("ok", "catching_up", "degraded", "stopped")
_OPERATIONS = ("connect", "read", "write")


class RecordMetrics(StoreObserver):
    """Counters of the projection, and the latency histogram of PostgreSQL."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._seconds = Histogram(
            "zkp_postgres_query_seconds",
            "Time that PostgreSQL took, by operation (connect, read, write), failures included.",
            ["operation"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self._errors = Counter(
            "zkp_postgres_errors",
            "PostgreSQL operations that failed; see this node's log.",
            ["operation"],
            registry=registry,
        )
        self._batches = Counter("zkp_projection_batches", "Batches written to the projection.", registry=registry)
        self._events = Counter("zkp_projection_events", "Events written to the projection.", registry=registry)
        self._refused = Counter(
            "zkp_projection_writes_refused",
            "Writes that the database refused: those of a deposed leader, as intended, or to another "
            "cluster's database.",
            registry=registry,
        )
        for operation in _OPERATIONS:
            self._seconds.labels(operation)
            self._errors.labels(operation)

    @contextmanager
    def query_timer(self, operation: str) -> Iterator[None]:
        """Measure a query of this operation."""
        began = time.perf_counter()
        try:
            yield
        except Exception:
            self._errors.labels(operation).inc()
            raise
        finally:
            self._seconds.labels(operation).observe(time.perf_counter() - began)

    def wrote(self, events: int) -> None:
        """Count projected events."""
        self._batches.inc()
        self._events.inc(events)

    def refused(self) -> None:
        """Count a refusal by the database."""
        self._refused.inc()


class ProjectionMetrics(Protocol):
    """The present status of the projector."""

    @property
    def status(self) -> str:
        """State of the projector."""
        ...

    @property
    def connected(self) -> bool:
        """Whether the projector is connected."""
        ...

    @property
    def lagging_since_ms(self) -> int | None:
        """Time of the oldest event that is not projected, in ms; None if there is none."""
        ...


class RecordGauges(Collector):
    """backlog: events in memory that are not known to be projected; leads: whether this node is the leader."""

    def __init__(
        self,
        projection: ProjectionMetrics,
        connections: Callable[[], ConnectionPool],
        backlog: Callable[[], int],
        leads: Callable[[], bool],
    ) -> None:
        self._projection = projection
        self._connections = connections
        self._backlog = backlog
        self._leads = leads

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on who leads."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield the gauges with their present values."""
        yield GaugeMetricFamily(
            "zkp_projection_backlog_events",
            "Events in memory that the projection is not known to hold. At the limit, submissions are refused.",
            float(self._backlog()),
        )
        now = self._connections()
        states = GaugeMetricFamily("zkp_postgres_connections", "Connections for reading, by state.", labels=["state"])
        states.add_metric(["idle"], float(now.idle))
        states.add_metric(["busy"], float(now.busy))
        yield states
        yield GaugeMetricFamily(
            "zkp_postgres_connections_limit", "Maximum number of open connections for reading.", float(now.limit)
        )
        if self._leads():
            yield from self._of_the_leader()

    def _of_the_leader(self) -> Iterable[Metric]:
        yield GaugeMetricFamily(
            "zkp_postgres_up",
            "1: the leader's connection for writing is open. 0: tasks continue, the backlog grows: repair it.",
            1.0 if self._projection.connected else 0.0,
        )
        since = self._projection.lagging_since_ms
        yield GaugeMetricFamily(
            "zkp_projection_lag_seconds",
            "Age of the oldest event that is not projected yet; 0 without one.",
            0.0 if since is None else max(0.0, time.time() - since / 1000),
        )
        statuses = GaugeMetricFamily(
            "zkp_projection_status",
            "1 for the state of the projection. stopped: the database refuses this cluster; an operator must act.",
            labels=["status"],
        )
        for status in _STATUSES:
            statuses.add_metric([status], 1.0 if status == self._projection.status else 0.0)
        yield statuses
