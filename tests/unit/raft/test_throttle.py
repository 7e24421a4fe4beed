"""A busy thread beside the node."""

from coordinator.raft.throttle import GilThrottle


def test_every_piece_of_work_is_followed_by_a_longer_rest() -> None:
    """Of the interpreter's time the node has the greater part; what the pause itself costs is not counted twice."""
    busy = [10.0]
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        busy[0] += 0.5

    turns = GilThrottle(pause, lambda: busy[0])
    for work in (0.25, 1.0, 0.0):
        busy[0] += work
        turns.pause()
    assert pauses == [0.5, 2.0, 0.0]
