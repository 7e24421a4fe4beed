"""The open connections of an HTTPS listener: bounds that strangers reach without harm to anyone else.

A connection whose caller is known by a certificate, or has sent a request with a good key, counts for its caller; any
other counts for its source address, is one of fewer, and must not be idle for long. Beyond a bound, a newcomer takes
over the connection that has been idle longest (`admission`), and one with a request under way is left alone.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from pki.tls.material import IdentityError, peer_certificate
from pki.x509.identity import Identity, Role
from zkp.daemon.admission import NoPlaceError, Places
from zkp.daemon.bounded_log import BoundedLog
from zkp.daemon.heap import give_back

log = logging.getLogger("zkp.daemon")

ANONYMOUS_IDLE_S = 10.0
"""How long a connection may be without a request while no one knows whose it is."""
RESERVED = 32
"""Connections for those who have to get in when all others are taken, beyond the others."""
RESERVED_FOR = frozenset({Role.ADMIN, Role.PROMETHEUS})

_GIVE_BACK_AFTER = 256  # connections fewer than there were: the memory that they had is worth giving back

CallerOf = Callable[[web.BaseRequest], str | None]
"""Who made a request, if the application knows the caller by other means than a certificate."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections may be open: with a known caller, and without."""

    known: int
    anonymous: int = 1

    def share_of_caller(self) -> int:
        """A proxy brings those of many; nobody needs all of them."""
        return max(1, self.known // 2)

    def share_of_source(self) -> int:
        return max(1, self.anonymous // 4)


class Connections:
    """Keeps the bounds. Connections are aiohttp's protocols; all of it happens on the event loop."""

    def __init__(self, bounds: Bounds, caller_of: CallerOf = lambda _: None) -> None:
        self._known: Places[web.RequestHandler] = Places(bounds.known, bounds.share_of_caller(), RESERVED)
        self._anonymous: Places[web.RequestHandler] = Places(bounds.anonymous, bounds.share_of_source())
        self._caller_of = caller_of
        self._log = BoundedLog(log, time.monotonic)
        self._open: set[web.RequestHandler] = set()
        self._most = 0  # open since memory was last given back

    def welcome(self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol, source: str, peer: str) -> None:
        """A handshake is done: find the connection a place, or close it. (`TlsAcceptor`'s Welcome.)"""
        if not isinstance(protocol, web.RequestHandler):
            raise TypeError("the acceptor was given another kind of protocol")
        identity = _identity_behind(transport)
        self._open.add(protocol)
        self._most = max(self._most, len(self._open))
        try:
            if identity is None:
                self._take(self._anonymous, protocol, source)
            else:
                self._take(self._known, protocol, identity.uri, privileged=identity.role in RESERVED_FOR)
        except NoPlaceError:
            who = source if identity is None else identity.uri
            self._log.warning(f"refused a connection: all those that {who} may have are busy", peer)
            transport.abort()

    def middleware(self) -> Middleware:
        """Tells which connections have a request under way; the outermost of an application."""

        @web.middleware
        async def notice(request: web.Request, handler: Handler) -> web.StreamResponse:
            protocol = request.protocol
            for places in (self._known, self._anonymous):
                places.work(protocol)
            try:
                return await handler(request)
            finally:
                self._answered(protocol, self._caller_of(request))

        return notice

    def look(self) -> None:
        """Forget what has been closed, and close what no one knows and is idle. To be called regularly."""
        self._forget_closed()
        for protocol in self._anonymous.idle_since(_now() - ANONYMOUS_IDLE_S):
            self._close(protocol)
        if self._most - len(self._open) >= _GIVE_BACK_AFTER:
            self._most = len(self._open)
            give_back()

    def _take(
        self,
        places: Places[web.RequestHandler],
        protocol: web.RequestHandler,
        holder: str,
        *,
        privileged: bool = False,
    ) -> None:
        try:
            displaced = places.take(protocol, holder, _now(), privileged=privileged)
        except NoPlaceError:
            self._forget_closed()  # those that ended since the last look are busy no longer
            displaced = places.take(protocol, holder, _now(), privileged=privileged)
        if displaced is not None:
            self._close(displaced)

    def _answered(self, protocol: web.RequestHandler, caller: str | None) -> None:
        if caller is not None and protocol in self._anonymous:
            try:
                self._take(self._known, protocol, caller)
            except NoPlaceError:
                pass  # it stays what it was
            else:
                self._anonymous.leave(protocol)
        for places in (self._known, self._anonymous):
            places.rest(protocol, _now())

    def _close(self, protocol: web.RequestHandler) -> None:
        self._leave(protocol)
        if protocol.transport is not None:
            protocol.transport.abort()

    def _forget_closed(self) -> None:
        for protocol in [one for one in self._open if one.transport is None]:
            self._leave(protocol)

    def _leave(self, protocol: web.RequestHandler) -> None:
        self._known.leave(protocol)
        self._anonymous.leave(protocol)
        self._open.discard(protocol)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _identity_behind(transport: asyncio.Transport) -> Identity | None:
    """Who showed the certificate of a finished handshake; None without one, or when it names no one."""
    try:
        return peer_certificate(transport.get_extra_info("ssl_object")).identity
    except IdentityError:
        return None
