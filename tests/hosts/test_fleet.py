"""The test hosts themselves: real, apart from each other, and gone without a trace."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hosts.commands import run
from tests.hosts.errors import HostsError
from tests.hosts.fleet import Fleet
from tests.integration.cluster.network import eventually

_NAME = f"traceless-{os.getpid()}"
_LISTEN = "import socket, time; listener = socket.create_server(('', 7000)); time.sleep(900)"
_TALK = """import socket, time
connection = socket.create_connection(('ADDRESS', 7000))
while True: connection.send(b'x'); time.sleep(0.01)
"""
# An ordinary user, who may read wherever the interpreter lies.
_AS_NOBODY = (
    "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
)  # fmt: skip


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Two hosts, for one test."""
    try:
        made = Fleet.create(_NAME, ["one", "two"])
    except HostsError as error:
        pytest.fail(str(error), pytrace=False)
    try:
        yield made
    finally:
        if _NAME in Fleet.names():
            made.destroy()


def test_hosts_are_machines_of_their_own(fleet: Fleet) -> None:
    """systemd is content, names, addresses and keys differ, and each reaches the other."""
    one, two = fleet.host("one"), fleet.host("two")
    for host, other in ((one, two), (two, one)):
        assert host.run("systemctl is-system-running").strip() == "running"
        assert host.run("hostname").strip() == host.name
        host.run(f"ping -c 1 -W 5 {other.address}")
    for file in ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub"):
        assert one.run(f"cat {file}") != two.run(f"cat {file}")


@pytest.mark.parametrize("versions", [(6,), (4, 6)], ids=["IPv6 alone", "both versions"])
def test_hosts_may_have_ipv6(versions: tuple[int, ...]) -> None:
    """Each reaches the other by every address that it has, and by no other version of IP."""
    made = Fleet.create(f"{_NAME}-6", ["one", "two"], versions=versions)
    try:
        one, two = made.host("one"), made.host("two")
        for address in (two.address, *two.more_addresses):
            one.run(f"ping -c 1 -W 5 {address}")
        found = json.loads(one.run("ip -json address show scope global"))
        shown = {address["local"] for link in found for address in link.get("addr_info", ()) if address}
        assert shown == {one.address, *one.more_addresses}
    finally:
        made.destroy()
    assert traces(made) == []


def test_a_host_keeps_its_disk_when_it_reboots_and_when_its_power_is_cut(fleet: Fleet) -> None:
    """What was written before is there afterwards, and it is another boot."""
    host = fleet.host("one")
    boots = [host.run("cat /proc/sys/kernel/random/boot_id; date > /root/kept; stat -c %Y /proc/1")]
    fleet.reboot("one")
    boots.append(host.run("cat /root/kept >/dev/null; cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1"))
    host.power_off()
    assert not host.running
    assert host.ssh("true").returncode == 255
    assert fleet.host("two").ssh("true").returncode == 0
    fleet.power_on("one")
    boots.append(host.run("cat /root/kept >/dev/null; cat /proc/sys/kernel/random/boot_id; stat -c %Y /proc/1"))
    assert len(set(boots)) == 3


def test_a_host_without_power_takes_leave_of_nobody(fleet: Fleet) -> None:
    """Its peers are left with connections that seem to be open: nothing was said to them."""
    one, two = fleet.host("one"), fleet.host("two")
    talk = _TALK.replace("ADDRESS", one.address)
    open_there = "ss --no-header --tcp state established dport = 7000"
    one.run(f'systemd-run --quiet python3 -c "{_LISTEN}"')
    two.run(f'systemd-run --quiet --property=Restart=on-failure --property=RestartSec=0.1 python3 -c "{talk}"')
    eventually("two hosts that talk", lambda: two.ssh(open_there).stdout)
    before = two.run(open_there).split()[2:]
    one.power_off()
    assert two.run(open_there).split()[2:] == before


def test_nothing_is_left_of_a_fleet_that_was_taken_down(fleet: Fleet) -> None:
    """No mount, link, rule, control group, process or file."""
    assert traces(fleet)
    fleet.destroy()
    assert traces(fleet) == []
    assert not fleet.directory.exists()


def test_who_is_not_root_is_told_so_in_one_line() -> None:
    """And so is everybody who lacks a program: nobody sees a traceback."""
    command = *_AS_NOBODY, sys.executable, "-B", "-m", "tests.hosts", "up"
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: test hosts need root: mounts, a bridge and systemd-nspawn; run this as root\n"


def traces(fleet: Fleet) -> list[str]:
    """Whatever on this machine names the fleet."""
    said = [Path("/proc/self/mounts").read_text(), run("ip", "-oneline", "link"), run("nft", "list", "tables")]
    said += [str(path) for path in Path("/sys/fs/cgroup").rglob("zkp-test-host-*")]
    said += [str(path) for path in Path("/run/systemd/nspawn").rglob("*")]
    said.append(run("ps", "-eo", "args"))
    words = (f"/{fleet.name}/", fleet.bridge, fleet.bridge.removeprefix("zkp-"))
    return [line for text in said for line in text.splitlines() if any(word in line for word in words)]
