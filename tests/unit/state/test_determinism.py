"""Every node must come to the same state from the same log, whatever its process is like."""

import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from coordinator.state.commands import Command
from coordinator.state.machine import State
from tests.unit.state.histories import COMMANDS, bytes_of, repeatable
from tests.unit.state.replay import replayed


def test_the_order_of_sets_and_hashes_shows_nowhere() -> None:
    """Processes with other hash seeds come to the same events, numbered alike, and to the same bytes."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.unit.state.replay"],
            env=os.environ | {"PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("1", "2")
    ]
    outputs = {process.communicate()[0].rstrip("\n") for process in processes}
    assert outputs == {replayed()}


@repeatable
@given(commands=st.lists(COMMANDS, max_size=30), times=st.lists(st.integers(0, 9_000), min_size=30, max_size=30))
def test_two_machines_that_are_fed_the_same_are_equal(commands: list[Command], times: list[int]) -> None:
    """Outcome by outcome and byte by byte; the real clock is never looked at."""
    one, other = State(), State()
    for command, now_ms in zip(commands, times, strict=False):
        assert one.apply(command, now_ms, 1) == other.apply(command, now_ms, 1)
    assert bytes_of(one) == bytes_of(other)
