"""Another release while the network is in use, and back again: nobody's task is lost."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Event

import pytest

from tests.hosts.deployment import HOSTS, Deployment, everywhere
from tests.hosts.playbook import ANSIBLE
from tests.hosts.test_changes import restart
from tests.hosts.test_outages import completed

_PROJECT = ANSIBLE.parent
_LEFT_OUT = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "tests")


@pytest.mark.slow
def test_a_release_is_changed_under_load_and_back_again(network: Deployment, tmp_path: Path) -> None:
    """Coordinators change one at a time, the leader last; every task that was accepted meanwhile is completed."""
    old, leader = release(network), network.leader()
    since = leader.run("date +%s.%N").strip()
    checkout = another_checkout(tmp_path / "checkout")

    done = Event()
    with ThreadPoolExecutor(1) as pool:
        submitting = pool.submit(submit_until, done, network)
        try:
            upgraded = network.play("upgrade.yml", zkp_project=str(checkout), zkp_controller_bin=programs())
        finally:
            done.set()
        tasks = submitting.result()
    upgraded.demand_success()

    assert release(network) != old
    assert len(tasks) > len(HOSTS)
    completed(network, tasks)
    restarts = sorted((restart(network.members[name], since) for name in HOSTS), key=lambda each: each.stopping)
    for earlier, later in pairwise(restarts):
        assert earlier.started < later.stopping, restarts
    assert restarts[-1].host == leader.name

    network.play("upgrade.yml", release_version=old).demand_success()

    assert release(network) == old
    network.wait_until_well()
    completed(network, tasks)


def release(network: Deployment) -> str:
    """The one that every host points to."""
    members = [network.members[name] for name in HOSTS]
    (found,) = set(everywhere(members, "basename $(readlink /opt/zkp/current)").values())
    return found.strip()


def another_checkout(copy: Path) -> Path:
    """The project with a change, so that it makes another release."""
    shutil.copytree(_PROJECT, copy, ignore=_LEFT_OUT)
    with (copy / "README.md").open("a") as readme:
        readme.write("\nA later release.\n")
    return copy


def programs() -> str:
    """The controller's own, which the copy has not."""
    return str(_PROJECT / ".venv/bin")


def submit_until(done: Event, network: Deployment) -> list[str]:
    """The ids of the tasks that the network has accepted, a few every second."""
    accepted: list[str] = []
    while not done.wait(1.0):
        accepted += network.submit(2)
    return accepted
