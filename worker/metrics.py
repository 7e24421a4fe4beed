"""What Prometheus may know of a worker."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_PROVING_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300)


class WorkerMetrics:
    """Counters of one worker in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._attempts = Counter(
            "zkp_worker_attempts",
            "Attempts that ended, by circuit and outcome (proved, dropped, released, or a failure's code).",
            ("circuit", "outcome"),
            registry=self.registry,
        )
        self._proving = Histogram(
            "zkp_worker_proving_seconds",
            "Time spent proving. Longer than it used to be: the machine is too busy.",
            ("circuit",),
            buckets=_PROVING_BUCKETS,
            registry=self.registry,
        )

    def ended(self, circuit: str, outcome: str) -> None:
        """One attempt ended."""
        self._attempts.labels(circuit or "unknown", outcome).inc()

    def proved_in(self, circuit: str, seconds: float) -> None:
        """A proof took this long."""
        self._proving.labels(circuit).observe(seconds)

    def watch(
        self, *, capacity: int, proving: Callable[[], int], held: Callable[[], int], online: Callable[[], bool]
    ) -> None:
        """Read these at every scrape."""
        self._gauge("zkp_worker_capacity", "Maximum number of concurrent proofs.", lambda: capacity)
        self._gauge("zkp_worker_proving", "Proofs being made.", proving)
        self._gauge("zkp_worker_held", "Attempts proved or not yet settled.", held)
        self._gauge(
            "zkp_worker_online",
            "1 while registered with a leader. 0 for long: see its log for the refusal.",
            lambda: int(online()),
        )

    def _gauge(self, name: str, help_text: str, read: Callable[[], int]) -> None:
        Gauge(name, help_text, registry=self.registry).set_function(read)
