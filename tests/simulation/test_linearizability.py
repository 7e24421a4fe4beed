"""The checker of client histories: it accepts what can be, and nothing else."""

import pytest

from tests.simulation.linearizability import DONE, NEVER, NEW, Call, Kind, linearizable


def submit(began: float, ended: float = NEVER, answer: str = "") -> Call:
    return Call(Kind.SUBMIT, began, ended, answer)


def cancel(began: float, ended: float = NEVER, answer: str = "") -> Call:
    return Call(Kind.CANCEL, began, ended, answer)


def get(began: float, ended: float, answer: str) -> Call:
    return Call(Kind.GET, began, ended, answer)


POSSIBLE = {
    "nothing happened": [],
    "a task is there from its submission on": [get(0, 1, "absent"), submit(2, 3, NEW), get(4, 5, "live")],
    "of two at once, either may be first": [submit(0, 9, NEW), get(1, 2, "absent"), get(3, 4, "live")],
    "sent again, it is the same task": [submit(0, 1, NEW), submit(2, 3, "live")],
    "an unanswered submission may have happened": [submit(0), get(5, 6, "live")],
    "or never": [submit(0), get(5, 6, "absent")],
    "or later": [submit(0), get(5, 6, "absent"), get(7, 8, "live")],
    "workers end tasks when they like": [submit(0, 1, NEW), get(2, 3, "live"), get(4, 5, "completed")],
    "a cancelled task is over": [submit(0, 1, NEW), cancel(2, 3, DONE), get(4, 5, "cancelled")],
    "a cancellation may come too late": [submit(0, 1, NEW), cancel(2, 3, "completed")],
    "or too early": [cancel(0, 1, "absent"), submit(2, 3, NEW)],
}
IMPOSSIBLE = {
    "a task out of nothing": [get(0, 1, "live")],
    "an accepted task is gone": [submit(0, 1, NEW), get(2, 3, "absent")],
    "a task is accepted twice": [submit(0, 1, NEW), submit(2, 3, NEW)],
    "an answer from the past": [submit(0, 1, NEW), get(2, 3, "completed"), get(4, 5, "live")],
    "an unanswered submission that happened and did not": [submit(0), get(5, 6, "live"), get(7, 8, "absent")],
    "a cancelled task goes on": [submit(0, 1, NEW), cancel(2, 3, DONE), get(4, 5, "completed")],
    "a task is cancelled twice": [submit(0, 1, NEW), cancel(2, 3, DONE), cancel(4, 5, DONE)],
    "two reads in the wrong order": [submit(0, 9, NEW), get(1, 2, "live"), get(3, 4, "absent")],
}


@pytest.mark.parametrize("calls", POSSIBLE.values(), ids=POSSIBLE)
def test_what_can_have_happened_is_accepted(calls: list[Call]) -> None:
    """In whatever order the calls are given."""
    assert linearizable(calls)
    assert linearizable(calls[::-1])


@pytest.mark.parametrize("calls", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_cannot_have_happened_is_noticed(calls: list[Call]) -> None:
    """In whatever order the calls are given."""
    assert not linearizable(calls)
    assert not linearizable(calls[::-1])
