"""The blocks of ports for local clusters."""

from zkp.localcluster import ports


def test_blocks_stay_below_the_ephemeral_range() -> None:
    """No block overlaps the ephemeral range."""
    bases = list(ports.bases(17350))

    assert bases == [17000, 17100, 17200]


def test_a_range_that_starts_low_leaves_no_block() -> None:
    """There is no block if the ephemeral range covers all ports."""
    assert list(ports.bases(1024)) == []
