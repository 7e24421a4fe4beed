"""Prometheus metrics of a worker."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_PROVING_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)


class WorkerMetrics:
    """Metrics of one worker, in a separate registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._attempts = Counter(
            "zkp_worker_attempts",
            "Ended attempts, by circuit and outcome (proved, dropped, released, or an error code).",
            ("circuit", "outcome"),
            registry=self.registry,
        )
        self._proving = Histogram(
            "zkp_worker_proving_seconds",
            "Duration of a proof, in seconds. An increase indicates an overloaded machine.",
            ("circuit",),
            buckets=_PROVING_BUCKETS_S,
            registry=self.registry,
        )

    def attempt_ended(self, circuit: str, outcome: str) -> None:
        """Count an ended attempt."""
        self._attempts.labels(circuit or "unknown", outcome).inc()

    def proof_made(self, circuit: str, seconds: float) -> None:
        """Record the duration of a proof."""
        self._proving.labels(circuit).observe(seconds)

    def register_gauges(
        self, *, capacity: int, proving: Callable[[], int], held: Callable[[], int], online: Callable[[], bool]
    ) -> None:
        """Register gauges that are read at every scrape."""
        self._gauge("zkp_worker_capacity", "Maximum number of concurrent proofs.", lambda: capacity)
        self._gauge("zkp_worker_proving", "Running proofs.", proving)
        self._gauge("zkp_worker_held", "Attempts held: being proved, or with an unacknowledged report.", held)
        self._gauge(
            "zkp_worker_online",
            "1 while registered with a leader. If it stays 0, see the worker's log for the reason.",
            lambda: int(online()),
        )

    def _gauge(self, name: str, help_text: str, read: Callable[[], int]) -> None:
        Gauge(name, help_text, registry=self.registry).set_function(read)
