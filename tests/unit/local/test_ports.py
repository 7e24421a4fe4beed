"""Which blocks of ports there are for local clusters."""

from zkp.localcluster import ports


def test_blocks_stay_below_the_ephemeral_range() -> None:
    """No block reaches a port that an outgoing connection could take."""
    bases = list(ports.bases(17350))

    assert bases == [17000, 17100, 17200]


def test_a_range_that_starts_low_leaves_no_block() -> None:
    """A machine that hands out all ports for outgoing connections has no safe block."""
    assert list(ports.bases(1024)) == []
