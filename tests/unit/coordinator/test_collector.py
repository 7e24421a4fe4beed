"""Python's collector of cycles in a coordinator."""

import gc
from collections.abc import Iterator

import pytest

from coordinator.collector import spare_the_leader
from coordinator.commands import RegisterCircuit, Submit
from coordinator.state import State


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """Generations that were collected during the test; the collector is as before afterwards."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    before = gc.get_threshold()
    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.set_threshold(*before)
    gc.unfreeze()


def test_a_growing_state_is_never_looked_at_as_a_whole(collections: list[int]) -> None:
    """However many tasks come in, only what is young is collected, and that still is."""
    spare_the_leader()
    collections.clear()
    state = State()
    state.apply(RegisterCircuit("addition", "key"), 1, 1)
    for number in range(30_000):
        state.apply(Submit(f"t{number}", "client", "addition", b"{}", ("1",), 3), 1, 1)
    assert 0 in collections
    assert 2 not in collections
