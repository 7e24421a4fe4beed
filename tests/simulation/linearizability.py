"""Whether what clients were told about one task can have happened in some order, each answer in its own time. Pure.

A call takes effect at one moment between its beginning and its end (Herlihy and Wing); one whose answer never came
may have taken effect at any later time, or never. Workers end a task whenever they like. The search tries every order
(Wing and Gong), which is cheap, because the calls about one task are few.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

NEVER = float("inf")


class Kind(StrEnum):
    SUBMIT = "submit"
    CANCEL = "cancel"
    GET = "get"


class Status(StrEnum):
    """What a client sees of a task; `LIVE` is everything between its submission and its end."""

    ABSENT = "absent"
    LIVE = "live"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


NEW = "new"
"""Answer to a submission: there was no such task before."""
DONE = "done"
"""Answer to a cancellation: the task had not ended before."""
_BY_WORKERS = (Status.COMPLETED, Status.FAILED)


@dataclass(frozen=True, slots=True)
class Call:
    """began, ended: seconds; ended is NEVER, and answer empty, when none came."""

    kind: Kind
    began: float
    ended: float = NEVER
    answer: str = ""


def _effects(status: Status, call: Call) -> Iterator[Status]:
    """What the task may be after the call, if this is when it takes effect."""
    after, answer = status, str(status)
    if call.kind is Kind.SUBMIT and status is Status.ABSENT:
        after, answer = Status.LIVE, NEW
    elif call.kind is Kind.CANCEL and status is Status.LIVE:
        after, answer = Status.CANCELLED, DONE
    if call.ended == NEVER or call.answer == answer:
        yield after


def linearizable(calls: Sequence[Call]) -> bool:
    """Whether there is such an order, for a task that was not there at first."""
    seen: set[tuple[frozenset[int], Status]] = set()
    waiting = [(frozenset(range(len(calls))), Status.ABSENT)]
    while waiting:
        left, status = waiting.pop()
        if (left, status) in seen:
            continue
        seen.add((left, status))
        if all(calls[number].ended == NEVER for number in left):
            return True
        if status is Status.LIVE:
            waiting.extend((left, ended) for ended in _BY_WORKERS)
        # Whatever has ended before another began comes before it.
        latest = min(calls[number].ended for number in left)
        for number in left:
            if calls[number].began <= latest:
                waiting.extend((left - {number}, after) for after in _effects(status, calls[number]))
    return False
