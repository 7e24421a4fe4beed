"""Asking before campaigning."""

import pytest

from coordinator.raft.prevote import PreVote, would_vote

LAST = (3, 10)


def test_a_majority_of_grants_wins() -> None:
    """Two of three, the asking node included; one of five is not enough, nor are two."""
    three, five = PreVote("n1", 3), PreVote("n1", 5)
    for round_ in (three, five):
        round_.ask(4)
        assert not round_.won(4)
        round_.answered("n2", 4, granted=True)
    assert three.won(4)
    assert not five.won(4)


def test_a_lone_node_needs_nobody() -> None:
    """A cluster of one elects itself."""
    alone = PreVote("n1", 1)
    alone.ask(1)
    assert alone.won(1)


def test_one_peer_counts_once() -> None:
    """However often it answers."""
    five = PreVote("n1", 5)
    five.ask(4)
    for _ in range(3):
        five.answered("n2", 4, granted=True)
    assert not five.won(4)


def test_refusals_and_answers_to_an_older_round_do_not_count() -> None:
    """Only grants, and only for the term that is asked for now."""
    three = PreVote("n1", 3)
    three.ask(4)
    three.answered("n2", 4, granted=False)
    three.answered("n3", 3, granted=True)
    assert not three.won(4)
    three.answered("n3", 4, granted=True)
    three.ask(5)
    assert not three.won(4)
    assert not three.won(5)


def test_what_was_answered_can_be_forgotten() -> None:
    """A leader that was only late makes the round void, and answers that are still on their way."""
    three = PreVote("n1", 3)
    three.ask(4)
    three.answered("n2", 4, granted=True)
    three.forget()
    three.answered("n3", 4, granted=True)
    assert not three.won(4)


@pytest.mark.parametrize(
    ("changed", "answer"),
    [
        ({}, True),
        ({"hears_leader": True}, False),
        ({"term": 3}, False),
        ({"last": (3, 9)}, False),
        ({"last": (2, 99)}, False),
        ({"last": (4, 1)}, True),
        ({"last": (3, 11)}, True),
    ],
)
def test_who_would_get_a_vote(changed: dict[str, object], answer: bool) -> None:
    """A newer term, a log at least as complete, and no leader in hearing."""
    question = {"own_term": 3, "own_last": LAST, "term": 4, "last": LAST, "hears_leader": False} | changed
    assert would_vote(**question) is answer  # type: ignore[arg-type]  # a table of mixed values
