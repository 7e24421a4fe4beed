"""Hosts whose logins have the umask 027 or 077, as CIS asks: what the playbooks make there does not depend on it.

Two hosts of the fleet that all tests share have one of these, so every test of the deployment is one of this, too.
"""

import sys
from pathlib import Path

import pytest

from tests.hosts.commands import run
from tests.hosts.conftest import UMASKS
from tests.hosts.deployment import HOSTS, Deployment, everywhere
from tests.hosts.host import Host
from tests.hosts.playbook import ANSIBLE
from tests.integration.cluster.network import eventually

_RELEASE_ONLY = ("--tags", "release")
_REPAIR = "release : Let every account read and run what is there"
_LOST = "chmod -R go= $(readlink -f /opt/zkp/current) /opt/zkp/keys"
"""What was left by a version that ran `venv` and `pip` with the host's umask: complete, and closed to the daemons."""
_UNREADABLE = "find /opt/zkp/ ! -readable -o -type d ! -executable"


def test_ansible_has_the_umask_of_a_hardened_host(network: Deployment) -> None:
    """A command that the playbooks run as root would make files that no daemon can read."""
    program = str(Path(sys.executable).with_name("ansible"))
    ask = "--become", "--one-line", "--module-name=ansible.builtin.shell", "--args=umask"
    settings = {"ANSIBLE_CONFIG": str(ANSIBLE / "ansible.cfg")}
    for name, umask in UMASKS.items():
        said = run(program, f"--inventory={network.fleet.inventory}", name, *ask, env=settings)
        assert f"0{umask}" in said


def test_every_account_can_read_the_release_and_no_other_than_root_can_change_it(network: Deployment) -> None:
    """The daemons' account, on every host, whatever its umask."""
    for name in HOSTS:
        assert as_daemon(network.members[name], _UNREADABLE) == ""
        assert as_daemon(network.members[name], "find /opt/zkp/ ! -type l -writable") == ""


def test_a_release_that_the_daemons_cannot_read_is_repaired(network: Deployment) -> None:
    """Wrong modes are a difference: check mode tells of it, a run removes it, and the next finds nothing."""
    host = network.members["host-3"]
    host.run(_LOST)
    look = network.play("site.yml", "--check", *_RELEASE_ONLY).demand_success()
    repaired = network.play("site.yml", *_RELEASE_ONLY).demand_success()

    assert (host.name, _REPAIR) in look.changed
    assert {name for name, _ in look.changed} == {host.name}
    assert repaired.changed == [(host.name, _REPAIR)]
    assert as_daemon(host, _UNREADABLE) == ""
    assert network.play("site.yml", *_RELEASE_ONLY).demand_success().changed == []


@pytest.mark.slow
def test_daemons_that_could_not_start_do_so_after_the_repair(network: Deployment) -> None:
    """One run of site.yml repairs what an earlier version has left on every host; the next changes nothing."""
    hosts = [network.members[name] for name in HOSTS]
    everywhere(hosts, f"systemctl stop zkp-coordinator zkp-worker zkp-gateway; {_LOST}")
    everywhere(hosts, "systemctl start --no-block zkp-coordinator zkp-worker zkp-gateway")
    assert network.ailments()

    network.play().demand_success()

    network.wait_until_well()
    network.prove()
    assert network.play().demand_success().changed == []


@pytest.mark.slow
def test_a_backup_is_made_and_restored_on_such_a_host(network: Deployment) -> None:
    """Only PostgreSQL's account can read the dump; the cluster uses what is restored from it, and no file is left."""
    database = network.members["host-1"]
    task = network.prove()
    found = "cd / && runuser -u postgres -- psql --dbname zkp -Atc \"SELECT id FROM tasks WHERE state = 'completed'\""
    eventually("the task in PostgreSQL", lambda: task["id"] in database.run(found).split())

    network.play("backup.yml").demand_success()

    listed = "find /var/backups/zkp -mindepth 1 -printf '%f %m %u\\n'"
    name, mode, owner = database.run(listed).split()
    assert (mode, owner) == ("600", "postgres")
    dump = network.directory / "controller/backups" / name
    network.play("restore.yml", restore_dump=str(dump)).demand_success()

    assert database.run(listed).split() == [name, mode, owner]
    network.wait_until_well()
    assert task["id"] in database.run(found).split()
    later = network.prove()
    eventually("a later task in PostgreSQL", lambda: later["id"] in database.run(found).split())
    assert network.play().demand_success().changed == []


def as_daemon(host: Host, command: str) -> str:
    """What a command prints that the daemons' account runs."""
    return host.run(f"cd / && runuser -u zkp -- {command}")
