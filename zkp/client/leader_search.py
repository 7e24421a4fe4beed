"""Leader discovery: which address to try next. Pure, without I/O.

A round tries every known address once: the last known leader first, then the configured addresses from a start index
that the caller chooses. The target of a redirect comes next. An address that has failed in this round is not tried
again in it, even if a follower names it: followers name a dead leader until they have elected another.
"""

import ipaddress
import re
from collections import deque
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from zkp.client.errors import InvalidAddress

_HOST = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?"
_ADDRESS = re.compile(rf"(?:(?P<host>{_HOST})|\[(?P<ipv6>[0-9A-Fa-f:.]{{2,45}})\]):(?P<port>[0-9]{{1,5}})")


def parse_address(address: str) -> tuple[str, int]:
    """Split HOST:PORT into host and port; an IPv6 host is written in brackets and returned in its shortest form.

    Stricter than gRPC's target syntax, so that a redirect cannot name a Unix socket or a proxy scheme.

    Raises:
        InvalidAddress: the address is not HOST:PORT.
    """
    match = _ADDRESS.fullmatch(address)
    host = _host(match) if match else None
    if match is None or host is None or not 0 < int(match["port"]) < 65536:
        raise InvalidAddress(
            f"coordinator address {address[:100]!r}: is not HOST:PORT; write it like 10.0.0.1:9090 or [fd00::1]:9090"
        )
    return host, int(match["port"])


def _host(match: re.Match[str]) -> str | None:
    if match["host"]:
        return match["host"]
    try:
        return str(ipaddress.IPv6Address(match["ipv6"]))
    except ValueError:
        return None


def grpc_target(address: str) -> str:
    """Return the gRPC target of HOST:PORT.

    gRPC compares an IPv6 address with the certificate as text, so it must have its shortest form.
    """
    host, port = parse_address(address)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class LeaderSearch:
    """One search for the leader.

    `start` rotates the configured addresses, so that not all clients try the same one first.
    """

    def __init__(self, addresses: Sequence[str], *, start: int = 0) -> None:
        turn = start % len(addresses)
        self._configured = (*addresses[turn:], *addresses[:turn])
        self._queue: deque[str] = deque()
        self._tried: set[str] = set()
        self._answers: dict[str, str] = {}
        self._permanent: set[str] = set()

    @property
    def answers(self) -> Mapping[str, str]:
        """The last result of each address, as text for errors."""
        return MappingProxyType(self._answers)

    @property
    def permanent(self) -> bool:
        """Whether every address tried in this round failed permanently."""
        return bool(self._tried) and self._tried <= self._permanent

    def begin_round(self, leader: str | None) -> None:
        """Start a round over all addresses, `leader` first."""
        self._tried.clear()
        self._permanent.clear()
        self._queue = deque(self._configured)
        if leader is not None:
            self._prioritize(leader)

    def next(self) -> str | None:
        """Return the address to try now; None when this round is over."""
        if not self._queue:
            return None
        address = self._queue.popleft()
        self._tried.add(address)
        return address

    def reached(self, address: str) -> None:
        """Record that `address` is the leader; if it fails, the others are tried before it is tried again."""
        self.begin_round(address)
        self.next()

    def not_leader(self, address: str, leader: str | None) -> None:
        """Record that `address` is not the leader, and named `leader` if it knew one."""
        named = leader
        if named is not None:
            try:
                parse_address(named)
            except InvalidAddress:
                named = None
        self._answers[address] = f"not the leader; leader is {named}" if named else "not the leader; leader unknown"
        if named is not None and named not in self._tried:
            self._prioritize(named)

    def failed(self, address: str, reason: str, *, permanent: bool = False) -> None:
        """Record that `address` did not answer; `reason` is text for errors."""
        self._answers[address] = reason
        if permanent:
            self._permanent.add(address)

    def _prioritize(self, address: str) -> None:
        if address in self._queue:
            self._queue.remove(address)
        self._queue.appendleft(address)
