"""site.yml is killed again and again on its way: whatever it left half done, the next run goes on from there."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.deployment import HOSTS, Deployment
from tests.hosts.errors import HostsError
from tests.hosts.fleet import Fleet
from tests.hosts.playbook import Outcome

_KILLS = 10
_STATE = (
    "find /etc/zkp /etc/systemd/system /etc/haproxy /etc/prometheus /etc/postgresql /etc/nftables.conf /opt/zkp/keys"
    " /var/lib/zkp -maxdepth 4 -not -name '*.segment' -not -name '*.snapshot' -printf '%p %M %u %g\\n' | sort"
)


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Deployment]:
    """A second fleet, with the three hosts of the inventory and nothing on them."""
    try:
        fleet = Fleet.create(f"killed-{os.getpid()}", HOSTS)
    except HostsError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield Deployment(fleet, tmp_path)
    finally:
        fleet.destroy()


@pytest.mark.slow
def test_a_run_that_was_killed_at_ten_points_ends_in_the_same_state(
    network: Deployment, first_run: Outcome, bare: Deployment
) -> None:
    """Ten kills, spread over all its tasks, one run to the end: then it is what an unbroken run leaves."""
    moments = random.Random(10)
    tasks = len({step.task for step in first_run.steps})
    for kill in range(_KILLS):
        run, target = bare.begin(), tasks * kill // _KILLS + moments.randrange(tasks // _KILLS)
        while run.running and len({step.task for step in run.steps}) < target:
            time.sleep(0.1)
        time.sleep(moments.uniform(0.1, 2.0))  # so that it is in the middle of a task
        killed = run.kill()
        print(f"killed in or after the task {killed.steps[-1].task if killed.steps else 'none'}")

    bare.play().demand_success()

    bare.wait_until_well()
    bare.prove()
    assert bare.play().demand_success().changed == []
    assert bare.play("verify.yml").demand_success().changed == []
    for name in HOSTS:
        assert bare.members[name].run(_STATE) == network.members[name].run(_STATE)
