"""Which worker failed what, lately: the leader's soft state for handing tasks out wisely. Pure.

A worker that fails everything fails it fast, and would burn the retries of a whole queue while good workers
prove. So a task is kept from the worker that just failed it, and a worker that fails again and again, with no
success in between, rests for a while that doubles up to half a minute.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from coordinator.state.model import AttemptState, EventKind, TaskEvent

UNSATISFIED_INPUTS = "unsatisfied_inputs"  # the client's fault: says nothing about the worker

_FORGIVEN = 2  # failures in a row that cost no rest
_FIRST_REST_S = 0.5
_LONGEST_REST_S = 30.0
_RELEASE_REST_S = 1.0  # a worker that hands tasks back is on its way out


@dataclass(slots=True)
class _Record:
    in_a_row: int = 0
    rests_until: float = 0.0


class WorkerBackoff:
    """Times are seconds of a clock that never runs backwards."""

    def __init__(self) -> None:
        self._avoided: dict[str, str] = {}
        self._workers: dict[str, _Record] = {}

    def clear(self) -> None:
        """Forget everything: leadership is over."""
        self._avoided.clear()
        self._workers.clear()

    @property
    def avoided(self) -> Mapping[str, str]:
        """Task id → the worker that failed it last, of tasks that have not ended."""
        return MappingProxyType(self._avoided)

    def resting(self, now: float) -> set[str]:
        """Workers that get nothing at `now`."""
        return {worker_id for worker_id, record in self._workers.items() if record.rests_until > now}

    def next_return(self, now: float) -> float | None:
        """When the next resting worker may be given tasks again; None when none rests."""
        return min((r.rests_until for r in self._workers.values() if r.rests_until > now), default=None)

    def observe(self, events: Sequence[TaskEvent], now: float) -> None:
        """Learn from attempts that ended."""
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
            self._judge(event.attempt.worker_id, event.attempt.state, event.attempt.error_code, now)

    def _judge(self, worker_id: str, ended: AttemptState, code: str, now: float) -> None:
        if ended is AttemptState.COMPLETED:
            self._workers.pop(worker_id, None)
            return
        if ended is AttemptState.RELEASED:
            record = self._workers.setdefault(worker_id, _Record())
            record.rests_until = max(record.rests_until, now + _RELEASE_REST_S)
        elif ended is AttemptState.FAILED and code != UNSATISFIED_INPUTS:
            record = self._workers.setdefault(worker_id, _Record())
            record.in_a_row += 1
            if record.in_a_row > _FORGIVEN:
                doublings = min(record.in_a_row - _FORGIVEN - 1, 10)
                record.rests_until = now + min(_FIRST_REST_S * 2**doublings, _LONGEST_REST_S)
