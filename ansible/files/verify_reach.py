"""Compares the ports of the network with the list of openings. Run by verify.yml, on every host and the controller.

    verify_reach.py '{"self": "host-1", "ssh_port": 22, "ssh_networks": [], "client_networks": ["0.0.0.0/0"],
                      "admin_networks": [], "hosts": {"host-1": {"addresses": ["192.168.1.10"], "groups": ["all"]}},
                      "openings": [{"name": "metrics", "port": 9091, "at": ["all"], "from": ["all"]}]}'

Dials every port that any host may have on every other host; on a host (`self` is not empty) it also looks at what
listens there. Prints JSON: {"faults": ["host-2 takes connections to 5432 from 192.168.1.10, …"], "dialled": 48}.
"""

import asyncio
import ipaddress
import json
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

_PATIENCE_S = 2.0


@dataclass(frozen=True)
class Network:
    """What the inventory says: hosts, openings, and the networks of those outside."""

    said: dict[str, Any]

    def openings_at(self, host: str) -> list[dict[str, Any]]:
        """What may listen on a host."""
        groups = set(self.said["hosts"][host]["groups"])
        return [opening for opening in self.said["openings"] if groups & set(opening["at"])]

    def addresses(self, host: str) -> set[str]:
        """Of a host, names resolved."""
        said = self.said["hosts"][host]["addresses"]
        return {str(found[4][0]) for address in said for found in socket.getaddrinfo(address, None)}

    def ports(self) -> set[int]:
        """Return every port of the network."""
        return {int(opening["port"]) for opening in self.said["openings"]} | {int(self.said["ssh_port"])}

    def may_dial(self, source: str, host: str, port: int) -> bool:
        """Whether the list lets an address dial a port of a host."""
        if port == self.said["ssh_port"]:
            return not self.said["ssh_networks"] or _within(source, self.said["ssh_networks"])
        return any(
            self._admits(opening, source) for opening in self.openings_at(host) if int(opening["port"]) == port
        )

    def _admits(self, opening: dict[str, Any], source: str) -> bool:
        groups = set(opening.get("from") or ())
        neighbours = (host for host, about in self.said["hosts"].items() if groups & set(about["groups"]))
        return (
            any(source in self.addresses(host) for host in neighbours)
            or (bool(opening.get("clients")) and _within(source, self.said["client_networks"]))
            or (bool(opening.get("admins")) and _within(source, self.said["admin_networks"]))
        )


def _within(source: str, networks: Iterable[str]) -> bool:
    address = ipaddress.ip_address(source)
    return any(address in ipaddress.ip_network(network, strict=False) for network in networks)


async def dial(address: str, port: int) -> tuple[str, bool] | None:
    """From which address, and whether something takes the connection; a filter that drops is waited for.

    None where no route leads there: a controller without IPv6 cannot test it.
    """
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, port))
        except OSError:
            return None
        source = str(probe.getsockname()[0])
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), _PATIENCE_S)
    except (OSError, TimeoutError):
        return source, False
    writer.close()
    return source, True


async def reach(network: Network, me: str) -> tuple[list[str], int]:
    """What can be dialled and may not, or may be and cannot; and how many ports were dialled."""
    others = [host for host in network.said["hosts"] if host != me]
    places = [(host, address) for host in others for address in sorted(network.addresses(host))]
    pairs = [(host, address, port) for host, address in places for port in sorted(network.ports())]
    answers = await asyncio.gather(*(dial(address, port) for _, address, port in pairs))
    routed = {host for (host, _, _), answer in zip(pairs, answers, strict=True) if answer is not None}
    faults = [f"no route leads from here to {host}" for host in others if host not in routed]
    for (host, _, port), answer in zip(pairs, answers, strict=True):
        if answer is None:
            continue
        source, is_open = answer
        allowed = network.may_dial(source, host, port)
        if is_open and not allowed:
            faults.append(
                f"{host} takes connections to {port} from {source}, which the list of openings does not allow"
            )
        if allowed and not is_open:
            faults.append(f"{host} takes no connection to {port} from {source}, which the list of openings allows")
    return faults, len(pairs)


def listening(network: Network, me: str) -> Iterator[str]:
    """What listens here and is not in the list, or is in the list and does not listen."""
    shown = subprocess.run(["ss", "-Hltn"], check=True, capture_output=True, text=True).stdout
    ends = [line.split()[3].rpartition(":") for line in shown.splitlines()]
    found = {int(port) for address, _, port in ends if not _is_loopback(address)}
    wanted = {int(opening["port"]) for opening in network.openings_at(me)} | {int(network.said["ssh_port"])}
    for port in sorted(found - wanted):
        yield f"{me} listens on {port}, which is not in the list of openings"
    for port in sorted(wanted - found):
        yield f"{me} does not listen on {port}, which is in the list of openings"


def _is_loopback(address: str) -> bool:
    bare = address.strip("[]").split("%")[0]
    return bare != "*" and ipaddress.ip_address(bare).is_loopback


def main(argument: str) -> int:
    """The exit status: 0, whatever was found."""
    network = Network(json.loads(argument))
    me = network.said["self"]
    faults, dialled = asyncio.run(reach(network, me))
    if me:
        faults += listening(network, me)
    json.dump({"faults": faults, "dialled": dialled}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
