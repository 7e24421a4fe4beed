"""Hosts that stand together: a bridge and subnets of their own, an ssh key, and an inventory for Ansible.

Hosts have an IPv4 address, an IPv6 address, or both; they are reached by the first. Only those with IPv4 reach the
world: the others have the packages that a deployment installs, and package lists that count as fresh.

A fleet is a directory under /var/lib/zkp-test-hosts; whatever made it, any later process can use it and take it down.
"""

import hashlib
import ipaddress
import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tests.hosts.base import base_tree, locked
from tests.hosts.commands import attempt, require, run
from tests.hosts.errors import HostsError
from tests.hosts.host import PATIENCE_S, USER, Host

FLEETS = Path("/var/lib/zkp-test-hosts")
_NETWORKS = ipaddress.ip_network("10.213.0.0/16")
_NETWORKS_6 = "fd00:213:0:{}::/64"  # by the third number of the IPv4 network
_FIRST = 11  # hosts are .11, .12, …; this machine is .1
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


class Fleet:
    """A fleet that exists; make one with `create`, find one with `open`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.directory = _directory(name)
        try:
            facts = json.loads((self.directory / "fleet.json").read_text())
        except FileNotFoundError:
            raise HostsError(f"there is no fleet {name!r}: make one with `up --name {name}`") from None
        self.network = ipaddress.IPv4Network(facts["network"])
        self.network_6 = ipaddress.IPv6Network(_NETWORKS_6.format(self.network.network_address.packed[2]))
        self.versions: tuple[int, ...] = tuple(facts["versions"])
        self._umasks = facts.get("umasks", {})
        self.hosts = {each: self._host(number, each) for number, each in enumerate(facts["hosts"])}

    @classmethod
    def create(
        cls,
        name: str,
        hosts: Sequence[str],
        *,
        versions: Sequence[int] = (4,),
        umasks: Mapping[str, str] | None = None,
    ) -> "Fleet":
        """Boot hosts of these names and wait until all are up; raises HostsError and leaves nothing if that fails.

        versions: of IP, by which each host has an address; Ansible and ssh use the first.
        umasks: host → the umask that its installation sets for every login, in octal, where it is not Debian's own.
        """
        require()
        base = base_tree()
        with locked(FLEETS):
            directory = _directory(name)
            if directory.exists():
                raise HostsError(f"fleet {name!r} exists: take it down first, or give another --name")
            directory.mkdir(mode=0o700)
            facts = {
                "network": str(_free_network()),
                "hosts": list(hosts),
                "versions": list(versions),
                "umasks": dict(umasks or {}),
            }
            (directory / "fleet.json").write_text(json.dumps(facts))
            run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"fleet {name}", "-f", str(directory / "key"))
        fleet = cls(name)
        try:
            fleet._connect()
            for host in fleet.hosts.values():
                host.create(base, fleet._addresses(host), fleet.gateways)
                host.power_on(fleet.bridge)
            fleet._know()
            for host in fleet.hosts.values():
                host.wait()
            fleet.inventory.write_text(yaml.safe_dump(fleet.reach(hosts), sort_keys=False))
        except OSError as error:  # of a container that may not do what root does
            fleet.destroy()
            raise HostsError(f"{error.filename}: {error.strerror}") from None
        except BaseException:
            fleet.destroy()
            raise
        return fleet

    @staticmethod
    def names() -> list[str]:
        """Of every fleet on this machine."""
        return sorted(path.parent.name for path in FLEETS.glob("*/fleet.json"))

    @property
    def bridge(self) -> str:
        """The bridge's name, which the kernel wants short, and that of the table of nftables that belongs to it."""
        return f"zkp-{hashlib.sha256(self.name.encode()).hexdigest()[:8]}"

    @property
    def gateways(self) -> list[str]:
        """This machine, as the hosts see it: an address of each version that they have."""
        return [str(self._networks[version][1]) for version in self.versions]

    @property
    def _networks(self) -> dict[int, ipaddress.IPv4Network | ipaddress.IPv6Network]:
        return {4: self.network, 6: self.network_6}

    @property
    def inventory(self) -> Path:
        """For Ansible, of every host."""
        return self.directory / "inventory.yaml"

    def reach(self, names: Sequence[str]) -> dict[str, object]:
        """An inventory of some of its hosts: how to reach each; groups are the deployment's business."""
        reach = {
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(self.directory / "key"),
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={self.directory / 'known_hosts'}",
        }
        hosts = {
            name: {"ansible_host": self.host(name).address, "zkp_more_addresses": self.host(name).more_addresses}
            for name in names
        }
        return {"all": {"hosts": hosts, "vars": reach}}

    def host(self, name: str) -> Host:
        """Raises HostsError for a host that it has not."""
        try:
            return self.hosts[name]
        except KeyError:
            raise HostsError(f"fleet {self.name!r} has no host {name!r}; it has {', '.join(self.hosts)}") from None

    def power_on(self, name: str) -> None:
        """Boot a host that is off, and wait until it is up."""
        host = self.host(name)
        if host.running:
            raise HostsError(f"{name} is on already")
        host.power_on(self.bridge)
        host.wait()

    def replace(self, name: str) -> None:
        """Put another machine in a host's place: with its name and address, and nothing of what was on it."""
        host = self.host(name)
        host.destroy()
        shutil.rmtree(host.directory)
        host.create(base_tree(), self._addresses(host), self.gateways)
        self._know()
        self.power_on(name)

    def reboot(self, *names: str) -> None:
        """Reboot hosts in good order, all at once, and wait until they are up again; all of them by default."""
        chosen = [self.host(name) for name in names or self.hosts]
        before = {host.name: _boot(host) for host in chosen}
        for host in chosen:
            host.ssh("sudo -n systemctl --no-block reboot")
        for host in chosen:
            deadline = time.monotonic() + PATIENCE_S
            while _boot(host) in {before[host.name], ""}:
                if time.monotonic() > deadline:
                    raise HostsError(f"{host.name} does not reboot; see {host.console}")
                time.sleep(0.2)
            host.wait()

    def destroy(self) -> None:
        """Take everything away again: processes, mounts, links, rules, files. Also of a fleet that is half made."""
        for host in self.hosts.values():
            host.destroy()
        attempt("nft", "delete", "table", "ip", self.bridge)
        attempt("ip", "link", "delete", self.bridge)
        with locked(FLEETS):
            shutil.rmtree(self.directory)

    def _addresses(self, host: Host) -> list[str]:
        """Of the host, with the lengths of their networks."""
        own = zip(self.versions, (host.address, *host.more_addresses), strict=True)
        return [f"{address}/{self._networks[version].prefixlen}" for version, address in own]

    def _know(self) -> None:
        known = "".join(f"{host.address} {host.public_key}\n" for host in self.hosts.values())
        (self.directory / "known_hosts").write_text(known)

    def _connect(self) -> None:
        run("ip", "link", "add", self.bridge, "type", "bridge")
        for version, gateway in zip(self.versions, self.gateways, strict=True):
            place = f"{gateway}/{self._networks[version].prefixlen}"
            run("ip", "address", "add", place, "dev", self.bridge, *(("nodad",) if version == 6 else ()))
        run("ip", "link", "set", self.bridge, "up")
        _FORWARDING.write_text("1")
        outwards = f"ip saddr {self.network} ip daddr != {self.network} masquerade"
        run("nft", "add", "table", "ip", self.bridge)
        run("nft", f"add chain ip {self.bridge} out {{ type nat hook postrouting priority srcnat; }}")
        run("nft", f"add rule ip {self.bridge} out {outwards}")

    def _host(self, number: int, name: str) -> Host:
        address, *more = (str(self._networks[version][_FIRST + number]) for version in self.versions)
        return Host(
            name=name,
            address=address,
            more_addresses=more,
            directory=self.directory / "hosts" / name,
            key=self.directory / "key",
            known_hosts=self.directory / "known_hosts",
            machine=f"{self.bridge.removeprefix('zkp-')}-{number}",
            umask=self._umasks.get(name, ""),
        )


def _directory(name: str) -> Path:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
        raise HostsError(f"a fleet's name is letters, digits and dashes, not {name!r}")
    return FLEETS / name


def _free_network() -> ipaddress.IPv4Network:
    """A subnet that no fleet has and no route of this machine leads to."""
    taken = [ipaddress.ip_network(json.loads(path.read_text())["network"]) for path in FLEETS.glob("*/fleet.json")]
    routes = [route["dst"] for route in json.loads(run("ip", "-json", "-4", "route"))]
    taken += [ipaddress.ip_network(route) for route in routes if route != "default"]
    for network in _NETWORKS.subnets(new_prefix=24):
        if not any(network.overlaps(other) for other in taken):
            return network  # type: ignore[return-value]  # a subnet of an IPv4 network
    raise HostsError(f"no subnet of {_NETWORKS} is free: take fleets down")


def _boot(host: Host) -> str:
    """Which boot this is: the time at which the first process of the host started; empty when it does not answer."""
    return host.ssh("stat -c %Y.%X /proc/1; cut -d' ' -f22 /proc/1/stat").stdout.strip()
