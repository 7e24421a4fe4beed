"""What became of one task is in the journals, found by its id: on its host, and from the operator's desk."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.commands import run
from tests.hosts.deployment import HOSTS, Deployment, everywhere
from tests.hosts.host import USER

_READERS = "systemd-journal"
"""The group whose members read every journal without being root."""


@pytest.fixture
def desk(network: Deployment, tmp_path: Path) -> Iterator[dict[str, str]]:
    """An operator's environment: ssh reaches each host by its name, as a user who may read the journal."""
    hosts = [network.members[name] for name in HOSTS]
    stanzas = [
        f"Host {host.name}\n  HostName {host.address}\n  User {USER}\n  IdentityFile {host.key}\n"
        f"  UserKnownHostsFile {host.known_hosts}\n"
        for host in hosts
    ]
    (tmp_path / "config").write_text("".join(stanzas))
    (tmp_path / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {tmp_path / "config"} "$@"\n')
    (tmp_path / "ssh").chmod(0o755)
    everywhere(hosts, f"gpasswd --add {USER} {_READERS}")
    yield {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    everywhere(hosts, f"gpasswd --delete {USER} {_READERS}")


def test_the_journal_tells_what_became_of_one_task(network: Deployment) -> None:
    """`journalctl ZKP_TASK_ID=…` finds its end, said once in the whole network, with how long it took."""
    task = network.prove()
    members = [network.members[name] for name in HOSTS]
    about = f"-u zkp-coordinator ZKP_TASK_ID={task['id']}"
    journals = everywhere(members, f"journalctl --quiet --output=cat {about} || true")
    (told,) = [journal for journal in journals.values() if journal.strip()]
    assert "task completed, in attempt 1" in told
    assert "proved in" in told


def test_a_task_is_traced_over_ssh(network: Deployment, desk: dict[str, str]) -> None:
    """`zkp trace --host …` puts the cluster's own times and the hosts' journals into one timeline, in order."""
    task = network.prove()
    hosts = [word for name in HOSTS for word in ("--host", name)]
    identity = network.directory / "identities/client"
    cluster = "--coordinators", network.coordinators, "--identity", str(identity)
    program = str(Path(sys.executable).with_name("zkp"))

    timeline = json.loads(run(program, "trace", task["id"], *hosts, *cluster, "--json", env=desk))

    assert [moment["at"] for moment in timeline] == sorted(moment["at"] for moment in timeline)
    said = {(moment["node"], moment["message"].split(",")[0]) for moment in timeline}
    assert {("cluster", "accepted"), ("cluster", "assigned"), ("cluster", "completed")} <= said
    assert any(node.startswith("coordinator-") and "completed" in words for node, words in said), said
