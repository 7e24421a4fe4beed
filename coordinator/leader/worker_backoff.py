"""Worker backoff: recent failures per worker, used by the scheduler. Leader-only soft state. Pure.

A worker that fails every attempt fails quickly, and would use up the retries of a whole queue while good workers
prove. A task is therefore not assigned again to the worker that failed it last (unless no other connected worker can
prove it), and a worker with consecutive failures gets no tasks for a period that doubles with each failure, up to
30 s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from coordinator.state.model import AttemptState, EventKind, TaskEvent

UNSATISFIED_INPUTS = "unsatisfied_inputs"  # caused by the client, no evidence against the worker

_TOLERATED_FAILURES = 2  # consecutive failures without backoff
_MIN_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 30.0
_RELEASE_BACKOFF_S = 1.0  # a worker that releases its tasks is shutting down


@dataclass(slots=True)
class _WorkerHistory:
    consecutive_failures: int = 0
    backoff_until: float = 0.0


class WorkerBackoff:
    """Backoff per worker. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._avoided: dict[str, str] = {}
        self._workers: dict[str, _WorkerHistory] = {}

    def clear(self) -> None:
        """Discard all history, because leadership ended."""
        self._avoided.clear()
        self._workers.clear()

    @property
    def last_failed_by(self) -> Mapping[str, str]:
        """Task id → the worker that failed it last, for tasks that have not ended."""
        return MappingProxyType(self._avoided)

    def backing_off(self, now: float) -> set[str]:
        """Return the workers that get no tasks at `now`."""
        return {worker_id for worker_id, history in self._workers.items() if history.backoff_until > now}

    def next_expiry(self, now: float) -> float | None:
        """Return when the next backoff ends; None when no worker backs off."""
        return min((r.backoff_until for r in self._workers.values() if r.backoff_until > now), default=None)

    def observe(self, events: Sequence[TaskEvent], now: float) -> None:
        """Update the history from attempts that ended."""
        for event in events:
            if event.kind is EventKind.WORKER_REGISTERED and event.worker is not None:
                self._workers.pop(event.worker.id, None)
            if event.task is None or event.attempt is None:
                if event.task is not None and event.task.state.final:
                    self._avoided.pop(event.task.id, None)
                continue
            if event.task.state.final:
                self._avoided.pop(event.task.id, None)
            elif event.attempt.state in (AttemptState.FAILED, AttemptState.LOST):
                self._avoided[event.task.id] = event.attempt.worker_id
            self._record_end(event.attempt.worker_id, event.attempt.state, event.attempt.error_code, now)

    def _record_end(self, worker_id: str, ended: AttemptState, code: str, now: float) -> None:
        if ended is AttemptState.COMPLETED:
            self._workers.pop(worker_id, None)
            return
        if ended is AttemptState.RELEASED:
            history = self._workers.setdefault(worker_id, _WorkerHistory())
            history.backoff_until = max(history.backoff_until, now + _RELEASE_BACKOFF_S)
        elif ended is AttemptState.FAILED and code != UNSATISFIED_INPUTS:
            history = self._workers.setdefault(worker_id, _WorkerHistory())
            history.consecutive_failures += 1
            if history.consecutive_failures > _TOLERATED_FAILURES:
                doublings = min(history.consecutive_failures - _TOLERATED_FAILURES - 1, 10)
                history.backoff_until = now + min(_MIN_BACKOFF_S * 2**doublings, _MAX_BACKOFF_S)
