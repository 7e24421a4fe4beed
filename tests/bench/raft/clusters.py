"""What the measurements ask of a cluster, whichever it is."""

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import grpc

from pki.tls.material import TlsMaterial
from tests.bench.raft.identities import CLIENT, HOST, files
from tests.bench.raft.processes import PATIENCE_S, BenchError, NodeProcess

_POLL_S = 0.02
_OPTIONS = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 8 << 20))


class Cluster(Protocol):
    """Three members. `label`: as tables and charts call it."""

    label: str
    members: dict[str, NodeProcess]

    def start(self) -> None:
        """Start every member, and return once one of them leads."""
        ...

    def leader(self) -> str:
        """The name of the member that leads; raises BenchError when there is none in time."""
        ...

    def wait_for(self, member: str) -> None:
        """Return once the member follows the leader, or leads."""
        ...

    def address(self, member: str) -> str:
        """HOST:PORT where callers reach the member."""
        ...

    def stop(self) -> None:
        """End every process."""
        ...


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def channel(directory: Path, address: str) -> grpc.aio.Channel:
    """A connection of its own with the client's certificate."""
    credentials = TlsMaterial.load(files(directory, CLIENT)).grpc_channel_credentials()
    return grpc.aio.secure_channel(address, credentials, options=_OPTIONS)


def eventually(what: str, found: Callable[[], str | None]) -> str:
    """What `found` returns once that is something; raises BenchError when it takes too long."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        value = found()
        if value is not None:
            return value
        time.sleep(_POLL_S)
    raise BenchError(f"{what}: not within {PATIENCE_S:g} s")


def stop_all(members: dict[str, NodeProcess]) -> None:
    """End them, one that fails to end not hindering the others."""
    with contextlib.ExitStack() as stack:
        for member in members.values():
            stack.callback(member.kill)
