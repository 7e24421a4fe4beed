"""The simulation can fail: with any one fix switched off, it does, within the seeds that are run here.

What is switched off beyond these is in the unit tests: coordinator/raft/DESIGN.md says which test sees which.
"""

import re
from pathlib import Path

import pytest

from tests.simulation.mutations import MUTATIONS, Mutation, votes_come_twice, votes_in_memory_only
from tests.simulation.schedule import broken_by, play, schedule, shrunk

DESIGN = Path(__file__).parents[2] / "coordinator" / "raft" / "DESIGN.md"
ATTEMPTS = 200
FAULTS = 20


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_without_the_fix_a_promise_is_broken(mutation: Mutation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster that does this is found out."""
    mutation.switch_off(monkeypatch)
    for attempt in range(mutation.seed, mutation.seed + ATTEMPTS):
        if broken_by(attempt, mutation.size, schedule(attempt, FAULTS, mutation.kinds)) is not None:
            return
    pytest.fail(f"{ATTEMPTS} seeds did not notice")


def test_votes_that_come_twice_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the fix on, what the mutation adds breaks nothing."""
    votes_come_twice(monkeypatch)
    for attempt in range(5):
        play(attempt, 5, schedule(attempt, FAULTS, ("cut_off_leader", "cut_off_candidate")))


def test_what_was_found_is_shrunk_to_what_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    """From twenty faults to a few, which still break a promise."""
    votes_in_memory_only(monkeypatch)
    steps = schedule(0, FAULTS)
    fewer = shrunk(0, 3, steps)
    assert len(fewer) <= 2
    assert set(fewer) <= set(steps)
    assert broken_by(0, 3, fewer) is not None


def test_the_design_lists_every_mutation() -> None:
    """So that its reader knows what the simulation is known to notice."""
    _, _, table = DESIGN.read_text("utf-8").partition("| switched off | ")
    listed = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    assert listed == {str(mutation) for mutation in MUTATIONS}
