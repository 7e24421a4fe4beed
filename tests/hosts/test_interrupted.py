"""site.yml is killed again and again on its way: whatever it left half done, the next run goes on from there."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.deployment import HOSTS, Deployment
from tests.hosts.errors import HostsError
from tests.hosts.fleet import Fleet
from tests.hosts.playbook import Outcome

_KILLS = 10
_LAST = 6
"""Tasks at the end, of which some take so little time that the run would be over before it is killed."""


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Deployment]:
    """A second fleet, with the three hosts of the inventory and nothing on them, and all with the umask 077."""
    try:
        fleet = Fleet.create(f"killed-{os.getpid()}", HOSTS, umasks=dict.fromkeys(HOSTS, "077"))
    except HostsError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield Deployment(fleet, tmp_path)
    finally:
        fleet.destroy()


@pytest.mark.slow
def test_a_run_that_was_killed_at_ten_points_ends_in_the_same_state(
    first_run: Outcome, first_traces: dict[str, str], bare: Deployment
) -> None:
    """Ten kills, spread over all its tasks, one run to the end: then it is what an unbroken run leaves.

    Also the modes are the same, although the umask of most hosts is another.
    """
    moments = random.Random(10)
    # By their place in the unbroken run: later ones have less and less to do.
    places = {task: place for place, task in enumerate(dict.fromkeys(step.task for step in first_run.steps))}
    tenth = (len(places) - _LAST) // _KILLS
    for kill in range(_KILLS):
        run, target = bare.begin(), 1 + tenth * kill + moments.randrange(tenth)
        while run.running and max((places.get(step.task, 0) for step in run.steps), default=0) < target:
            time.sleep(0.1)
        time.sleep(moments.uniform(0.1, 2.0))  # so that it is in the middle of a task
        killed = run.kill()
        assert killed.status == -signal.SIGKILL, killed.refusals
        print(f"killed after {killed.seconds:.0f} s, in or after the task {killed.steps[-1].task}")

    bare.play().demand_success()

    bare.wait_until_well()
    bare.prove()
    assert bare.play().demand_success().changed == []
    assert bare.play("verify.yml").demand_success().changed == []
    assert bare.traces() == first_traces
