"""Hosts that reboot or vanish: the network comes back by itself, and loses nothing."""

from tests.hosts.deployment import Deployment
from tests.hosts.host import PATIENCE_S
from tests.integration.cluster.network import eventually


def test_a_reboot_of_one_host_is_survived(network: Deployment) -> None:
    """The leader's: tasks that were accepted before it are completed after it, and it is a member again."""
    leader = network.leader()
    tasks = network.submit(20)
    network.fleet.reboot(leader.name)
    network.wait_until_well()
    completed(network, tasks)
    assert leader.run("systemctl is-system-running || true").strip() == "running"


def test_a_reboot_of_all_hosts_at_once_is_survived(network: Deployment) -> None:
    """Nobody logs in to any of them; the cluster is the same, and no accepted task is lost."""
    tasks = network.submit(30)
    cluster = network.members["host-1"].run("cat /var/lib/zkp/coordinator/membership")
    network.fleet.reboot(*network.members)
    network.wait_until_well()
    completed(network, tasks)
    assert network.members["host-1"].run("cat /var/lib/zkp/coordinator/membership") == cluster
    for host in network.members.values():
        assert host.run("systemctl is-system-running || true").strip() == "running"


def test_a_host_that_is_gone_for_good_is_not_missed(network: Deployment) -> None:
    """A coordinator and worker loses power with tasks in flight: all complete, and new ones are taken meanwhile."""
    gone = network.members["host-3"]
    tasks = network.submit(40)
    gone.power_off()
    try:
        completed(network, [*tasks, *network.submit(5)])
        network.prove()
        working = {worker["id"] for worker in network.status()["workers"] if worker["state"] == "online"}
        assert working == network.workers - {"worker-host-3"}
    finally:
        network.fleet.power_on(gone.name)


def test_tasks_are_proved_while_the_database_host_is_gone(network: Deployment) -> None:
    """They are accepted and completed without the record, which has them all when it is back."""
    gone = network.members["host-1"]
    gone.power_off()
    try:
        network.prove()
        tasks = network.submit(5)
    finally:
        network.fleet.power_on(gone.name)
    network.wait_until_well()
    completed(network, tasks)
    query = "SELECT id FROM tasks WHERE state = 'completed'"
    found = gone.run(f'cd / && runuser -u postgres -- psql --dbname zkp -Atc "{query}"').split()
    assert set(tasks) <= set(found)


def completed(network: Deployment, tasks: list[str]) -> None:
    """Wait until each of them is; fails naming the states if one ends otherwise or is not known."""

    def done() -> bool:
        states = network.states(tasks)
        assert set(states) == set(tasks), f"lost: {set(tasks) - set(states)}"
        assert set(states.values()) <= {"pending", "assigned", "in_progress", "completed"}, states
        return set(states.values()) == {"completed"}

    eventually("every accepted task", done, PATIENCE_S)
