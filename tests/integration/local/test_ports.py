"""Claiming a block of ports."""

import contextlib

import pytest

from zkp.localcluster import ports
from zkp.localcluster.errors import LocalClusterError


def test_the_first_block_with_every_port_free_is_taken() -> None:
    """If one port is in use, the next block is taken."""
    with ports.claimed_base((1, 11), free=lambda port: port not in {17001, 17111}) as base:
        assert base == 17200


def test_two_clusters_that_start_at_once_get_different_blocks() -> None:
    """A claimed block is not available to others, even before anything listens."""
    with contextlib.ExitStack() as both:
        first = both.enter_context(ports.claimed_base((1,), free=lambda _: True))
        second = both.enter_context(ports.claimed_base((1,), free=lambda _: True))

        assert first != second


def test_the_ports_of_last_time_are_preferred() -> None:
    """A restarted cluster keeps its ports if they are free."""
    with ports.claimed_base((1,), preferred=17500, free=lambda _: True) as base:
        assert base == 17500


def test_no_free_block_is_an_error() -> None:
    """Without a free block there is a one-line error with a hint."""
    with (
        pytest.raises(LocalClusterError, match="no block of 100 is free"),
        ports.claimed_base((1,), free=lambda _: False),
    ):
        pass
