"""Each caller has its own bucket of tokens, in bounded memory."""

import pytest

from gateway.ratelimit import RateLimit


class Clock:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


def test_a_burst_passes_then_requests_are_refused_with_the_time_to_wait(clock: Clock) -> None:
    """Twenty at once; the next one after a tenth of a second."""
    limit = RateLimit(10, 20, 100, clock)
    assert [limit.take("alice") for _ in range(20)] == [0.0] * 20
    assert limit.take("alice") == pytest.approx(0.1)


def test_waiting_for_the_returned_time_is_enough(clock: Clock) -> None:
    """A retry after the returned time succeeds."""
    for rate in (0.3, 3, 7, 9.9):
        limit = RateLimit(rate, 1, 100, clock)
        limit.take("alice")
        clock.now += limit.take("alice")
        assert limit.take("alice") == 0.0


def test_the_rate_holds_over_time(clock: Clock) -> None:
    """However requests are distributed, at most as many pass as burst and rate allow."""
    limit = RateLimit(10, 20, 100, clock)
    admitted = 0
    for _ in range(1000):
        clock.now += 0.01
        admitted += limit.take("alice") == 0.0
    assert 115 <= admitted <= 120


def test_refused_requests_cost_nothing(clock: Clock) -> None:
    """A caller that hammers on is let in as soon as one that waits."""
    limit = RateLimit(1, 1, 100, clock)
    limit.take("alice")
    for _ in range(50):
        limit.take("alice")
    clock.now += 1
    assert limit.take("alice") == 0.0


def test_a_pause_saves_at_most_the_burst(clock: Clock) -> None:
    """An hour of silence is worth one burst."""
    limit = RateLimit(10, 2, 100, clock)
    limit.take("alice")
    clock.now += 3600
    assert [limit.take("alice") > 0 for _ in range(3)] == [False, False, True]


def test_callers_do_not_share(clock: Clock) -> None:
    """One caller's requests are not another's."""
    limit = RateLimit(1, 1, 100, clock)
    limit.take("alice")
    assert limit.take("bob") == 0.0
    assert limit.take("alice") > 0


def test_the_least_recently_active_caller_is_evicted(clock: Clock) -> None:
    """Memory is bounded, and an active caller keeps its bucket."""
    limit = RateLimit(1, 1, 3, clock)
    for caller in ("alice", "bob", "carol", "alice", "dave"):
        limit.take(caller)
    assert len(limit) == 3
    assert limit.take("alice") > 0
    assert limit.take("bob") == 0.0


def test_a_clock_that_steps_back_is_harmless(clock: Clock) -> None:
    """Tokens are never taken away by time."""
    limit = RateLimit(1, 2, 100, clock)
    limit.take("alice")
    clock.now -= 500
    assert limit.take("alice") == 0.0
