"""How a local cluster claims a block of ports."""

import contextlib

import pytest

from zkp.localcluster import ports
from zkp.localcluster.errors import LocalClusterError


def test_the_first_block_with_every_port_free_is_taken() -> None:
    """One port in use moves the whole block, so that ports stay memorable."""
    with ports.claimed_base((1, 11), free=lambda port: port not in {17001, 17111}) as base:
        assert base == 17200


def test_two_clusters_that_start_at_once_get_different_blocks() -> None:
    """While a block is claimed nobody else gets it, although nothing listens there yet."""
    with contextlib.ExitStack() as both:
        first = both.enter_context(ports.claimed_base((1,), free=lambda _: True))
        second = both.enter_context(ports.claimed_base((1,), free=lambda _: True))

        assert first != second


def test_the_ports_of_last_time_are_preferred() -> None:
    """A cluster that comes back keeps its ports when they are free."""
    with ports.claimed_base((1,), preferred=17500, free=lambda _: True) as base:
        assert base == 17500


def test_no_free_block_is_said_in_one_line() -> None:
    """A machine full of listeners gets a sentence with the cure."""
    with (
        pytest.raises(LocalClusterError, match="no free block of 100 ports"),
        ports.claimed_base((1,), free=lambda _: False),
    ):
        pass
