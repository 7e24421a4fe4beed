"""The backoff is a pure value: bounded, growing, and never zero."""

import pytest

from zkp.client.backoff import Backoff


def test_a_delay_doubles_until_the_ceiling() -> None:
    """The longest delay grows exponentially up to the ceiling."""
    backoff = Backoff(initial=0.1, ceiling=1.0)
    longest = [round(backoff.delay(failures, 1.0), 6) for failures in range(1, 7)]
    assert longest == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_half_of_a_delay_is_certain() -> None:
    """Half of each step is fixed, whatever the jitter."""
    assert Backoff(initial=0.1, ceiling=1.0).delay(1, 0.0) == pytest.approx(0.05)


def test_a_week_of_failures_does_not_overflow() -> None:
    """Any number of failures gives a finite delay."""
    assert Backoff(initial=1, ceiling=60).delay(10**9, 0.999) <= 60


@pytest.mark.parametrize(("initial", "ceiling"), [(0, 1), (2, 1), (-1, 1)])
def test_nonsense_is_refused(initial: float, ceiling: float) -> None:
    """A zero or negative start, or a ceiling below the start, is rejected."""
    with pytest.raises(ValueError, match="backoff: needs"):
        Backoff(initial, ceiling)
