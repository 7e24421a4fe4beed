"""Listening for TCP connections, on IPv4 and IPv6 in the same way for every port of a daemon."""

import asyncio
import errno
import ipaddress
import socket
from typing import Any

from zkp.daemon.settings import Address

_EVERY_IPV4 = "0.0.0.0"  # noqa: S104  # what :: means to a kernel without IPv6


async def listen(host: str, port: int, *, backlog: int) -> socket.socket:
    """Return a non-blocking listening socket.

    `::` means every address of this machine, of IPv4 too, whatever the system's own default is (gRPC does the same),
    and also where the kernel has no IPv6. Any other IPv6 address means only itself.

    Raises:
        OSError: The address cannot be used (`socket.gaierror`: `host` cannot be resolved).
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    every = family == socket.AF_INET6 and ipaddress.ip_address(address[0]).is_unspecified
    try:
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        if not every or error.errno != errno.EAFNOSUPPORT:
            raise
        return await listen(_EVERY_IPV4, port, backlog=backlog)
    try:
        listening.setblocking(False)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not every)
        listening.bind(address)
        listening.listen(backlog)
    except OSError:
        listening.close()
        raise
    return listening


def peer_text(address: tuple[Any, ...]) -> str:
    """Return HOST:PORT of a peer; an IPv4-mapped address is shown as IPv4."""
    host, port = str(address[0]), int(address[1])
    found = ipaddress.ip_address(host)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(Address(str(mapped or found), port))
