"""Ports of a local cluster: one block of 100 ports below the ephemeral range.

A port of the ephemeral range may be taken by any outgoing connection between choosing and listening, or while a node
is down; a port below it, only by a program that binds that port.
"""

import contextlib
import errno
import itertools
import socket
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from zkp.localcluster.errors import LocalClusterError

BLOCK = 100
FIRST_BASE = 17000
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")

RAFT, GRPC, HEALTH, METRICS = 0, 10, 20, 30
WORKER_HEALTH = 40
GATEWAY_HTTPS, GATEWAY_HEALTH = 60, 61
PROMETHEUS = 70


def bases(ephemeral_low: int) -> Iterator[int]:
    """Return the first ports of the candidate blocks, in order; all end below the ephemeral range."""
    return iter(range(FIRST_BASE, min(ephemeral_low, 65536) - BLOCK + 1, BLOCK))


def ephemeral_low() -> int:
    """Return the lowest ephemeral port of this machine."""
    return int(_EPHEMERAL_RANGE.read_text(encoding="ascii").split()[0])


def is_free(port: int) -> bool:
    """Return whether a server could listen on 127.0.0.1:`port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@contextlib.contextmanager
def claimed_base(
    offsets: Iterable[int], *, preferred: int | None = None, free: Callable[[int], bool] = is_free
) -> Iterator[int]:
    """Claim a block whose ports base + offset are all free, until the context ends.

    It is the preferred block if possible, otherwise the first. The claim is an abstract Unix socket named after the
    block: it belongs to the same network namespace as the ports and ends with this process, so clusters that start at
    the same time get different blocks.
    """
    wanted = tuple(offsets)
    candidates = bases(ephemeral_low())
    for base in candidates if preferred is None else itertools.chain((preferred,), candidates):
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as claim:
            if not _claim(claim, base) or not all(free(base + offset) for offset in wanted):
                continue
            yield base
            return
    raise LocalClusterError(f"ports: no block of {BLOCK} is free from {FIRST_BASE} on; stop another local cluster")


def _claim(claim: socket.socket, base: int) -> bool:
    try:
        claim.bind(f"\0zkp-local-ports-{base}")
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True
