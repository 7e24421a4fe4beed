"""Inventories and hosts that could not work are refused with the cure, before anything is changed anywhere."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.hosts.conftest import SPARE
from tests.hosts.deployment import Deployment

_LATER = "import time; time.time = lambda real=time.time: real() + 5"
"""For Python, in a file *.pth: all that Ansible asks of the host happens five seconds later."""
_PATH_FILE = "/usr/local/lib/python3.11/dist-packages/later.pth"


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong, and words of the refusal: the place and the cure. `spoil` and `mend` are commands on host-3."""

    says: tuple[str, ...]
    change: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    spoil: str = "true"
    mend: str = "true"


def _of(host: str, **variables: Any) -> dict[str, Any]:
    return {"all": {"hosts": {host: variables}}}


def _fake(program: str, says: str) -> str:
    """A command that puts something before a program on the path."""
    return f"printf '#!/bin/sh\\necho {says}\\n' > /usr/local/bin/{program}; chmod 0755 /usr/local/bin/{program}"


CASES = {
    "two hosts with one id": Wrong(
        says=("same coordinator id", "pki_names"),
        change=_of("host-2", pki_names={"coordinator": "coordinator-host-1"}),
    ),
    "an id that no certificate can carry": Wrong(
        says=("host-2: worker id 'worker_2'", "pki_names"), change=_of("host-2", pki_names={"worker": "worker_2"})
    ),
    "an address that the authority does not certify": Wrong(
        says=("host-2: host fd00:dead::1 is outside", "pki rotate-issuer --network"),
        change=_of("host-2", zkp_more_addresses=["fd00:dead::1"]),
    ),
    "a configuration that its daemon refuses": Wrong(
        says=("host-3: coordinator.yaml", "raft.heartbeat", "raft.election_timeout"),
        change=_of("host-3", coordinator_heartbeat="900ms"),
    ),
    "an even number of coordinators": Wrong(
        says=("4 coordinators", "three or five"), change={"coordinators": {"hosts": {SPARE: {}}}}
    ),
    "a loopback address": Wrong(says=("127.0.0.1", "zkp_address"), change=_of("host-2", zkp_address="127.0.0.1")),
    "two hosts with one address": Wrong(
        says=("same address", "ansible_host"),
        change={"all": {"hosts": {"host-2": {"zkp_address": "192.0.2.1"}, "host-3": {"zkp_address": "192.0.2.1"}}}},
    ),
    "a clock that is five seconds off": Wrong(
        says=("clock of host-3", "timedatectl"),
        spoil=f"mkdir -p $(dirname {_PATH_FILE}); echo '{_LATER}' > {_PATH_FILE}",
        mend=f"rm {_PATH_FILE}",
    ),
    "a clock that nothing keeps right": Wrong(
        says=("clock of host-3 is not synchronised", "timesyncd.conf"),
        # A container has its machine's clock and is not asked: let it look like a machine.
        spoil=f"{_fake('systemd-detect-virt', 'none')}; {_fake('timedatectl', 'no')}",
        mend="rm /usr/local/bin/systemd-detect-virt /usr/local/bin/timedatectl",
    ),
    "a placeholder instead of a password": Wrong(
        says=("coordinator_database_password", "vault"), variables={"coordinator_database_password": "changeme"}
    ),
    "a placeholder instead of a passphrase": Wrong(
        says=("pki_passphrase", "vault"), variables={"pki_passphrase": "<a long passphrase of your own>"}
    ),
    "another distribution": Wrong(
        says=("host-3 runs", "Debian 12"),
        spoil="cp -a /etc/debian_version /root/; echo 11.9 > /etc/debian_version; cp -L /etc/os-release /root/;"
        " sed 's/12/11/; s/bookworm/bullseye/' /root/os-release > /etc/os-release.new;"
        " mv /etc/os-release.new /etc/os-release",
        mend="mv /root/debian_version /etc/debian_version; ln -sf ../usr/lib/os-release /etc/os-release",
    ),
    "a port that something else has": Wrong(
        says=("host-3 port 8444", "zkp_gateway_port"),
        variables={"zkp_gateway_port": 8444},
        spoil="systemd-run --quiet --unit=squatter python3 -m http.server 8444; sleep 1",
        mend="systemctl stop squatter",
    ),
}


_QUICK = {
    "an id that no certificate can carry",
    "an address that the authority does not certify",
    "a configuration that its daemon refuses",
}
"""One of each kind of judgement; integration tests have most of the others, without hosts."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in _QUICK)) for name in CASES]
)
def test_what_could_not_work_is_refused(network: Deployment, name: str) -> None:
    """It fails, says where and what to do, and has changed nothing on any host."""
    wrong, before = CASES[name], network.running_since()
    change = dict(wrong.change)
    if SPARE in str(change):  # it has to be reachable, to be refused for what it is there for
        change |= network.fleet.reach([SPARE])
    with spoiled(network, wrong):
        refused = network.play("site.yml", change=change or None, **wrong.variables)

    assert refused.status != 0
    for word in wrong.says:
        assert word in refused.refusals, refused.refusals
    assert refused.changed == []
    assert network.running_since() == before


@contextmanager
def spoiled(network: Deployment, wrong: Wrong) -> Iterator[None]:
    """Something is wrong on host-3 for a while."""
    host = network.members["host-3"]
    host.run(wrong.spoil)
    try:
        yield
    finally:
        host.run(wrong.mend)
