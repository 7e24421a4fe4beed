"""A network that is in use is changed: what need not notice does not, and what has to restart does so in turn."""

import re
from dataclasses import dataclass
from itertools import pairwise

import pytest

from tests.hosts.conftest import SPARE
from tests.hosts.deployment import HOSTS, Deployment
from tests.hosts.host import Host

_COORDINATOR = "zkp-coordinator.service"


@dataclass(frozen=True, slots=True)
class Restart:
    """Of a coordinator's unit; seconds since 1970, by a clock that all hosts share."""

    host: str
    stopping: float
    started: float


@pytest.mark.slow
def test_a_worker_host_joins_and_nobody_restarts(network: Deployment) -> None:
    """A bare host is put into the group workers, site.yml is run: it takes tasks, and no process elsewhere is new."""
    before = network.running_since()
    network.join(SPARE, "workers")
    network.play().demand_success()
    network.wait_until_well()
    assert f"worker-{SPARE}" in {worker["id"] for worker in network.status()["workers"]}
    after = network.running_since()
    assert {unit: after.get(unit) for unit in before} == before


def test_a_changed_setting_restarts_coordinators_one_at_a_time(network: Deployment) -> None:
    """Each is a member again before the next one stops, the leader is the last, and nothing else is restarted."""
    before, leader = network.running_since(), network.leader()
    since = leader.run("date +%s.%N").strip()
    network.variables["coordinator_lease"] = "12s"

    network.play().demand_success()

    after = network.running_since()
    changed = {unit for unit in before if before[unit] != after[unit]}
    assert changed == {(name, _COORDINATOR) for name in HOSTS}
    restarts = sorted((restart(network.members[name], since) for name in HOSTS), key=lambda each: each.stopping)
    for earlier, later in pairwise(restarts):
        assert earlier.started < later.stopping, restarts
    assert restarts[-1].host == leader.name


def restart(host: Host, since: str) -> Restart:
    """The one restart of its coordinator since then."""
    journal = host.run(f"journalctl --no-pager -o short-unix --since @{since} UNIT={_COORDINATOR}")
    moments = {word: re.findall(rf"^([0-9.]+) .*{word} {_COORDINATOR}", journal, re.MULTILINE) for word in _WORDS}
    assert [len(found) for found in moments.values()] == [1, 1], journal
    return Restart(host.name, *(float(found[0]) for found in moments.values()))


_WORDS = ("Stopping", "Started")
