"""Filters for addresses that may be of IPv4 or IPv6, with Python's standard library alone."""

import ipaddress
from collections.abc import Callable, Iterable


def endpoint(host: str, port: int | str) -> str:
    """HOST:PORT, an IPv6 address in brackets: the one place that writes an address with its port."""
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"


def endpoints(hosts: str | Iterable[str], port: int | str) -> list[str]:
    """The same of one host or several, at one port."""
    return [endpoint(host, port) for host in ([hosts] if isinstance(hosts, str) else hosts)]


def networks_of(hosts: Iterable[str]) -> list[str]:
    """The /24 of each IPv4 address and the /64 of each IPv6 address, each once; names are left out."""
    found = set()
    for host in hosts:
        try:
            address = ipaddress.ip_address(str(host))
        except ValueError:
            continue
        found.add(ipaddress.ip_network((address, 24 if address.version == 4 else 64), strict=False))
    return [str(network) for network in sorted(found, key=lambda network: (network.version, network))]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Name → function."""
        return {"zkp_endpoint": endpoint, "zkp_endpoints": endpoints, "zkp_networks_of": networks_of}
