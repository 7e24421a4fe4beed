"""Whom to ask next in search of the leader. Pure: addresses and answers in, the next address out.

A round asks every known address once: the last known leader first, then the configured ones from a starting
point of the caller's choice. A redirect jumps the queue. An address that already failed in this round is
not asked again because somebody still believes in it (followers name a dead leader until they have elected
another).
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
    """Split HOST:PORT (IPv6 in brackets, returned in its shortest spelling); raises `InvalidAddress`.

    Stricter than gRPC's own target syntax: a redirect must not be able to name a Unix socket or a proxy
    scheme.
    """
    match = _ADDRESS.fullmatch(address)
    host = _host(match) if match else None
    if match is None or host is None or not 0 < int(match["port"]) < 65536:
        raise InvalidAddress(
            f"coordinator address {address[:100]!r}: write HOST:PORT, like 10.0.0.1:9090 or [fd00::1]:9090"
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
    """HOST:PORT as gRPC is to dial it: it compares the text of an IPv6 address with that of the certificate's."""
    host, port = parse_address(address)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class LeaderSearch:
    """One search.

    `start` rotates the configured addresses, so that many clients do not all ask the same one.
    """

    def __init__(self, addresses: Sequence[str], *, start: int = 0) -> None:
        turn = start % len(addresses)
        self._configured = (*addresses[turn:], *addresses[:turn])
        self._queue: deque[str] = deque()
        self._asked: set[str] = set()
        self._answers: dict[str, str] = {}
        self._hopeless: set[str] = set()

    @property
    def answers(self) -> Mapping[str, str]:
        """What each address last came to, in words."""
        return MappingProxyType(self._answers)

    @property
    def hopeless(self) -> bool:
        """Every address asked in this round failed in a way that another try cannot cure."""
        return bool(self._asked) and self._asked <= self._hopeless

    def begin_round(self, leader: str | None) -> None:
        """Ask everybody anew, `leader` first."""
        self._asked.clear()
        self._hopeless.clear()
        self._queue = deque(self._configured)
        if leader is not None:
            self._jump(leader)

    def next(self) -> str | None:
        """The address to ask now; None when this round is over."""
        if not self._queue:
            return None
        address = self._queue.popleft()
        self._asked.add(address)
        return address

    def reached(self, address: str) -> None:
        """`address` leads. Should it fail, the others are asked before it is asked again."""
        self.begin_round(address)
        self.next()

    def not_leader(self, address: str, leader: str | None) -> None:
        """`address` answered that it does not lead, and named `leader` if it knew one."""
        named = leader
        if named is not None:
            try:
                parse_address(named)
            except InvalidAddress:
                named = None
        self._answers[address] = f"not the leader; it names {named}" if named else "not the leader; it names none"
        if named is not None and named not in self._asked:
            self._jump(named)

    def failed(self, address: str, reason: str, *, hopeless: bool = False) -> None:
        """`address` gave no answer; `reason` in words."""
        self._answers[address] = reason
        if hopeless:
            self._hopeless.add(address)

    def _jump(self, address: str) -> None:
        if address in self._queue:
            self._queue.remove(address)
        self._queue.appendleft(address)
