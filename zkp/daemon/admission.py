"""Admission to a bounded number of places, with a limit per holder and displacement of idle connections.

A holder is what several connections have in common: a source address, or the identity of a certificate. When places
run out, a new connection replaces the one that has been idle longest, of the holder with the most idle connections.
A source that fills all places only displaces its own. Pure: the time is a parameter, and nothing is closed here.
"""

import ipaddress
from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_IPV6_SITE_BITS = 64
"""A customer of a network has at least a /64 (RFC 6177), and all its addresses."""


class NoPlaceError(Exception):
    """Every place that the new connection could take over is busy."""


def source_of(host: str) -> str:
    """Return the source of a connection: the IPv4 address, or the /64 of an IPv6 address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_SITE_BITS), strict=False))


class Places(Generic[Key]):
    """A bounded number of places with their holders."""

    def __init__(self, total: int, per_holder: int, reserved: int = 0) -> None:
        """total: for everyone together; per_holder: of these, for one holder.

        reserved: beyond `total`, for privileged newcomers. Who has one of these is never displaced.
        """
        if not 1 <= per_holder <= total:
            raise ValueError(f"{per_holder} places per holder: give at least 1 and at most the total, {total}")
        self._total, self._per_holder, self._reserved = total, per_holder, reserved
        self._holders: dict[Key, str] = {}
        self._protected: set[Key] = set()
        self._held: Counter[str] = Counter()
        self._idle: dict[str, dict[Key, None]] = {}
        """Of each holder, the places that can be taken over; longest idle first."""
        self._since: dict[Key, float] = {}
        """Since when each idle key, protected ones included, has been so; longest first."""
        self._by_idle: dict[int, dict[str, None]] = {}
        """Number of idle places → the holders that have as many: the one with the most is found at once."""
        self._most = 0

    def __len__(self) -> int:
        """How many places are taken, reserved ones included."""
        return len(self._holders)

    def __contains__(self, key: Key) -> bool:
        return key in self._holders

    def take(self, key: Key, holder: str, now: float, *, privileged: bool = False) -> Key | None:
        """Give `key` a place, idle since `now`; the key that lost its place to it, if one had to.

        Raises NoPlaceError, and changes nothing, when all that could be displaced are busy.
        """
        displaced = self.displaced_by(holder, privileged=privileged)
        if displaced is not None:
            self.leave(displaced)
        if privileged and len(self._protected) < self._reserved:
            self._protected.add(key)
        else:
            self._held[holder] += 1
        self._holders[key] = holder
        self.rest(key, now)
        return displaced

    def displaced_by(self, holder: str, *, privileged: bool = False) -> Key | None:
        """Whose place a newcomer of this holder would take over; None while there are free ones.

        Raises NoPlaceError when all that could be displaced are busy.
        """
        if privileged and len(self._protected) < self._reserved:
            return None
        if self._held[holder] >= self._per_holder:
            from_whom = holder
        elif len(self._holders) - len(self._protected) >= self._total:
            from_whom = next(iter(self._by_idle.get(self._most, ())), holder)
        else:
            return None
        displaced = next(iter(self._idle.get(from_whom, ())), None)
        if displaced is None:
            raise NoPlaceError
        return displaced

    def work(self, key: Key) -> None:
        """`key` is busy from now on: it cannot be displaced."""
        if self._since.pop(key, None) is not None and key not in self._protected:
            self._rank(self._holders[key], key, idle=False)

    def rest(self, key: Key, now: float) -> None:
        """`key` is idle since `now`, which is not before any other moment that was given."""
        if key not in self._holders:
            return
        self.work(key)
        self._since[key] = now
        if key not in self._protected:
            self._rank(self._holders[key], key, idle=True)

    def leave(self, key: Key) -> None:
        """Give the place back, if `key` has one."""
        if key not in self._holders:
            return
        self.work(key)
        holder = self._holders.pop(key)
        if key in self._protected:
            self._protected.remove(key)
            return
        self._held[holder] -= 1
        if not self._held[holder]:
            del self._held[holder]

    def idle_since(self, moment: float) -> list[Key]:
        """The keys that have been idle since `moment` or longer."""
        found = []
        for key, since in self._since.items():
            if since > moment:
                break
            found.append(key)
        return found

    def _rank(self, holder: str, key: Key, *, idle: bool) -> None:
        """Add the key to its holder's idle ones, or remove it; and move the holder to its new rank."""
        keys = self._idle.setdefault(holder, {})
        if keys:
            ranked = self._by_idle[len(keys)]
            del ranked[holder]
            if not ranked:
                del self._by_idle[len(keys)]
        if idle:
            keys[key] = None
        else:
            del keys[key]
        if keys:
            self._by_idle.setdefault(len(keys), {})[holder] = None
        else:
            del self._idle[holder]
        # The number of one holder changes by one, so that the highest one does, too.
        self._most = max(self._most, len(keys))
        if self._most not in self._by_idle:
            self._most -= 1
