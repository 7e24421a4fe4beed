"""What Prometheus reads from a coordinator.

Gauges are read from the live state at each scrape and cost nothing in between. Totals of what happened to tasks and
workers are counted by the leader alone, so that their sum over the nodes is what the cluster did.
"""

from collections.abc import Iterable, Sequence

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from coordinator.health import Health
from coordinator.model import Event, EventKind, WorkerState
from coordinator.replication import Replicator

_FINISHED = {
    EventKind.TASK_COMPLETED: "completed",
    EventKind.TASK_FAILED: "failed",
    EventKind.TASK_CANCELLED: "cancelled",
}
_ROLES = ("leader", "follower", "candidate", "waiting")


class Metrics:
    """Counters, and the registry that /metrics shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._submitted = Counter(
            "zkp_tasks_submitted", "Tasks accepted while this node led.", registry=self.registry
        )
        self._finished = Counter(
            "zkp_tasks_finished",
            "Tasks that ended while this node led, by final state.",
            ["state"],
            registry=self.registry,
        )
        self._attempts = Counter(
            "zkp_attempts_ended",
            "Attempts that ended while this node led; lost ones are leases taken back.",
            ["state"],
            registry=self.registry,
        )
        self._quarantines = Counter(
            "zkp_workers_quarantined",
            "Workers that sent a false proof while this node led.",
            registry=self.registry,
        )
        self._calls = Counter(
            "zkp_rpc_requests",
            "gRPC calls that ended, by method and status.",
            ["method", "code"],
            registry=self.registry,
        )
        self._refusals = Counter(
            "zkp_refused",
            "Connections and calls refused for who the caller is, by port and reason.",
            ["port", "reason"],
            registry=self.registry,
        )

    def observe(self, events: Sequence[Event]) -> None:
        """Count what happened. For the leader's events only."""
        for event in events:
            if event.kind is EventKind.TASK_SUBMITTED:
                self._submitted.inc()
            elif event.kind in _FINISHED:
                self._finished.labels(_FINISHED[event.kind]).inc()
            elif event.kind is EventKind.WORKER_QUARANTINED:
                self._quarantines.inc()
            if event.attempt is not None and event.attempt.ended_ms:
                self._attempts.labels(str(event.attempt.state)).inc()

    def called(self, method: str, code: str) -> None:
        """A gRPC call ended."""
        self._calls.labels(method, code).inc()

    def refused(self, port: str, reason: str) -> None:
        """Somebody was turned away. port: "grpc", "raft"."""
        self._refusals.labels(port, reason).inc()

    def watch(self, replicator: Replicator, health: Health) -> None:
        """Add the gauges of this node."""
        self.registry.register(_Gauges(replicator, health))


class _Gauges(Collector):
    """Looks at the node when it is asked."""

    def __init__(self, replicator: Replicator, health: Health) -> None:
        self._replicator = replicator
        self._health = health

    def describe(self) -> Iterable[Metric]:
        """Nothing: what there is depends on the node, which may not be up yet when this is registered."""
        return ()

    def collect(self) -> Iterable[Metric]:
        yield from self._raft()
        yield from self._work()
        serves = 1.0 if self._health.can_serve() else 0.0
        yield GaugeMetricFamily("zkp_ready", "1: this node serves, or sends callers to the leader.", serves)

    def _raft(self) -> Iterable[Metric]:
        status = self._replicator.status()
        roles = GaugeMetricFamily("zkp_raft_role", "1 for the role that this node has.", labels=["role"])
        for role in _ROLES:
            roles.add_metric([role], 1.0 if role == status.role else 0.0)
        yield roles
        for name, text, value in (
            ("zkp_raft_is_leader", "1: this node leads and is current.", self._replicator.is_leader),
            ("zkp_raft_term", "The current term.", status.term),
            ("zkp_raft_commit_index", "Highest entry known to be agreed on.", status.commit_index),
            ("zkp_raft_last_applied", "Highest entry applied to the state.", status.last_applied),
            ("zkp_raft_log_entries", "Entries in the log since the last snapshot.", status.log_entries),
        ):
            yield GaugeMetricFamily(name, text, float(value))
        peers = GaugeMetricFamily("zkp_raft_peer_connected", "1: the link to the peer is up.", labels=["peer"])
        for peer, seen in sorted(status.peers.items()):
            peers.add_metric([peer], 1.0 if seen.connected else 0.0)
        yield peers

    def _work(self) -> Iterable[Metric]:
        state = self._replicator.state
        tasks = GaugeMetricFamily("zkp_tasks", "Tasks in memory, by state.", labels=["state"])
        for task_state, count in state.counts.items():
            tasks.add_metric([str(task_state)], float(count))
        yield tasks
        workers = GaugeMetricFamily("zkp_workers", "Known workers, by state.", labels=["state"])
        for worker_state in WorkerState:
            count = sum(worker.state is worker_state for worker in state.workers.values())
            workers.add_metric([str(worker_state)], float(count))
        yield workers
        online = [worker for worker in state.workers.values() if worker.state is WorkerState.ONLINE]
        for name, text, value in (
            ("zkp_worker_slots", "Slots of the workers that are online.", sum(w.capacity for w in online)),
            ("zkp_worker_slots_busy", "Attempts under way.", sum(map(len, state.leases.values()))),
            ("zkp_projection_lag_events", "Events that PostgreSQL lacks.", self._health.database().backlog),
        ):
            yield GaugeMetricFamily(name, text, float(value))
