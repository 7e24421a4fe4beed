"""One command makes a network of bare hosts, and once more changes nothing; verify.yml sees what it should see."""

import json
import re
from pathlib import Path

import pytest

from tests.hosts.commands import run
from tests.hosts.deployment import DAEMONS, HOSTS, Deployment, everywhere
from tests.hosts.playbook import Outcome

_SECRETS = re.compile(r"PRIVATE KEY-----(\s|\\n|#012)*[A-Za-z0-9+/]{32}|DB_PASSWORD=(?!checked\b).")
"""A key with what it is made of, or a password: the role coordinator says `checked` where it has a file checked."""


def test_bare_hosts_can_be_looked_at_without_touching_them(dry_run: Outcome) -> None:
    """`--check --diff` before anything is there: it tells what it would do, and does not fail."""
    assert dry_run.changed


def test_one_command_leads_from_nothing_to_a_proof(first_run: Outcome, network: Deployment) -> None:
    """Nothing failed on the way, and a client's proof comes through the load balancer, by gRPC and by HTTPS."""
    report(first_run, "first")
    assert network.prove()["proof"]

    identity = network.directory / "identities/client"
    tls = [word for flag, file in _CURL.items() for word in (f"--{flag}", str(identity / file))]
    url = f"https://{network.members['host-2'].address}/api/v1/tasks/addition"
    task = json.loads(run("curl", "--silent", "--fail-with-body", *tls, "--json", '{"a": "2", "b": "40"}', url))
    assert re.fullmatch(r"[0-9a-f]{32}", task["id"])


_CURL = {"cert": "certificate.pem", "key": "key.pem", "cacert": "ca.pem"}


def test_a_second_run_changes_nothing(network: Deployment) -> None:
    """On no host, and no daemon notices."""
    before = network.running_since()
    again = network.play().demand_success()
    report(again, "second")
    assert again.changed == []
    assert network.running_since() == before


def test_a_look_at_a_network_that_is_there_finds_nothing_to_do(network: Deployment) -> None:
    """`--check --diff` tells the truth afterwards, too."""
    look = network.play("site.yml", "--check", "--diff").demand_success()
    assert look.changed == []


def test_verification_finds_no_fault_and_changes_nothing(network: Deployment) -> None:
    """verify.yml on a network as site.yml leaves it."""
    before = network.running_since()
    verified = network.play("verify.yml").demand_success()
    assert verified.changed == []
    assert network.running_since() == before


def test_one_file_that_was_tampered_with_is_repaired_and_nothing_else(network: Deployment) -> None:
    """Its contents are as before, its daemon runs with them, and no other daemon was touched."""
    host, path = network.members["host-3"], "/etc/zkp/worker.yaml"
    good, before = host.run(f"cat {path}"), network.running_since()
    host.run(f"sed -i 's/^log_level:.*/log_level: debug/' {path}")

    repaired = network.play().demand_success()

    assert host.run(f"cat {path}") == good
    assert {name for name, _ in repaired.changed} == {"host-3"}
    after = network.running_since()
    touched = {unit for unit in before if before[unit] != after[unit]}
    assert touched == {("host-3", "zkp-worker.service")}, repaired.changed


def test_no_secret_was_shown(first_run: Outcome, dry_run: Outcome, network: Deployment) -> None:
    """Neither by the playbook nor in a journal."""
    assert not _SECRETS.search(first_run.output + dry_run.output)
    for name, journal in everywhere(list(network.members.values()), "journalctl -b --no-pager").items():
        assert not _SECRETS.search(journal), name


def test_the_journals_tell_the_story(network: Deployment) -> None:
    """One node founded the cluster, each found its peers and says whom it follows or that it leads."""
    journals = everywhere([network.members[name] for name in HOSTS], "journalctl --no-pager -u zkp-coordinator")
    founders = [name for name, journal in journals.items() if "cluster bootstrapped" in journal]
    assert len(founders) == 1
    for name, journal in journals.items():
        assert "connected" in journal, name
        assert re.search(r"entering (follower|leader) state", journal), name
        assert "serving on" in journal, name


def test_every_host_is_content_and_nothing_was_restarted(network: Deployment) -> None:
    """By systemd's own word: `running`, and no unit of ours came back by itself."""
    for host in network.members.values():
        assert host.run("systemctl is-system-running || true").strip() == "running"
        shown = host.run(f"systemctl show --property NRestarts {' '.join(DAEMONS)}").split()
        assert set(shown) == {"NRestarts=0"}, host.name


@pytest.mark.parametrize("unit", ["zkp-coordinator.service", "zkp-worker.service", "zkp-gateway.service"])
def test_the_installed_units_are_those_of_the_project(network: Deployment, unit: str) -> None:
    """Static, on every host, with nothing added to them."""
    source = Path(__file__).parents[2] / "systemd" / unit
    for name in HOSTS:
        shown = network.members[name].run(f"systemctl cat {unit}")
        assert shown.split("\n", 1)[1].strip() == source.read_text("utf-8").strip(), name


def report(outcome: Outcome, which: str) -> None:
    """How long it took and what of it: for the README."""
    print(f"{which} run: {outcome.seconds:.0f} s, {len(outcome.of('changed'))} changes; slowest tasks:")
    for seconds, task in outcome.slowest(8):
        print(f"  {seconds:6.1f} s  {task}")
