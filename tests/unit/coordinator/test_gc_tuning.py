"""Python's collector of cycles and its turns of threads in a coordinator."""

import asyncio
import gc
import sys
from collections.abc import Iterator

import pytest

from coordinator.gc_tuning import collect_garbage_on_followers, tune_gc
from coordinator.state.commands import RegisterCircuit, Submit
from coordinator.state.machine import State


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """Generations that were collected during the test; the interpreter is as before afterwards."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            seen.append(info["generation"])

    before, interval = gc.get_threshold(), sys.getswitchinterval()
    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)
    gc.set_threshold(*before)
    gc.unfreeze()
    sys.setswitchinterval(interval)


def test_a_growing_state_is_never_looked_at_as_a_whole(collections: list[int]) -> None:
    """However many tasks come in, only what is young is collected, and that still is."""
    tune_gc()
    collections.clear()
    state = State()
    state.apply(RegisterCircuit("addition", "key"), 1, 1)
    for number in range(30_000):
        state.apply(Submit(f"t{number}", "client", "addition", b"{}", ("1",), 3), 1, 1)
    assert 0 in collections
    assert 2 not in collections


async def test_only_who_follows_collects_everything_and_at_a_time_of_its_own(
    collections: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader skips its turn; pauses differ, so that nodes which started together do not collect together."""
    tune_gc()
    collections.clear()
    is_leader = [True, False, True, False]
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        if len(pauses) == len(is_leader):
            raise asyncio.CancelledError
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await collect_garbage_on_followers(lambda: is_leader[len(pauses) - 1])
    assert collections.count(2) == 2
    assert len(set(pauses)) == len(pauses)
    assert all(1800 <= pause <= 5400 for pause in pauses)


def test_a_busy_thread_gives_the_node_its_turn_soon(collections: list[int]) -> None:
    """Ten times sooner than Python would by itself: the node waits that long while a thread encodes a snapshot."""
    usual = sys.getswitchinterval()
    tune_gc()
    assert sys.getswitchinterval() <= usual / 10
