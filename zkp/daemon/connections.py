"""Limits on the open connections of an HTTPS listener, so that unauthenticated peers cannot exhaust it.

A connection whose caller is known by a certificate, or has sent a request with a valid key, counts towards the limit
of its caller. Any other counts towards the lower limit of its source address, and has a shorter idle timeout.
Beyond a limit, a new connection replaces the one that has been idle longest (`admission`), but never one with an open
request.
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
from zkp.daemon.heap import trim_heap

log = logging.getLogger("zkp.daemon")

ANONYMOUS_IDLE_S = 10.0
"""Idle timeout of connections without a known caller."""
RESERVED = 32
"""Additional connections for the roles in `RESERVED_FOR`."""
RESERVED_FOR = frozenset({Role.ADMIN, Role.PROMETHEUS})

_TRIM_AFTER = 256  # closed connections, whose memory is worth returning to the operating system

CallerOf = Callable[[web.BaseRequest], str | None]
"""Returns the caller of a request, if the application identifies it by other means than a certificate."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Maximum numbers of open connections: with a known caller, and without."""

    known: int
    anonymous: int = 1

    def share_of_caller(self) -> int:
        """Return the limit per caller; a proxy may forward the requests of many."""
        return max(1, self.known // 2)

    def share_of_source(self) -> int:
        """Return the limit per source address of connections without a known caller."""
        return max(1, self.anonymous // 4)


class Connections:
    """Enforces the limits. Connections are aiohttp's protocols. Not thread-safe."""

    def __init__(self, bounds: Bounds, caller_of: CallerOf = lambda _: None) -> None:
        self._known: Places[web.RequestHandler] = Places(bounds.known, bounds.share_of_caller(), RESERVED)
        self._anonymous: Places[web.RequestHandler] = Places(bounds.anonymous, bounds.share_of_source())
        self._caller_of = caller_of
        self._log = BoundedLog(log, time.monotonic)
        self._open: set[web.RequestHandler] = set()
        self._most = 0  # maximum since the heap was last trimmed

    def on_connected(
        self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol, source: str, peer: str
    ) -> None:
        """Take a place for a connection after its handshake, or close it; see `acceptor.OnConnected`."""
        if not isinstance(protocol, web.RequestHandler):
            raise TypeError("the protocol is not a RequestHandler")
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
        """Return the middleware that marks connections with an open request as busy. It must be the outermost."""

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

    def check(self) -> None:
        """Remove closed connections, and close idle ones without a known caller. Must be called regularly."""
        self._forget_closed()
        for protocol in self._anonymous.idle_since(_now() - ANONYMOUS_IDLE_S):
            self._close(protocol)
        if self._most - len(self._open) >= _TRIM_AFTER:
            self._most = len(self._open)
            trim_heap()

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
            self._forget_closed()  # connections that were closed since the last check are no longer busy
            displaced = places.take(protocol, holder, _now(), privileged=privileged)
        if displaced is not None:
            self._close(displaced)

    def _answered(self, protocol: web.RequestHandler, caller: str | None) -> None:
        if caller is not None and protocol in self._anonymous:
            try:
                self._take(self._known, protocol, caller)
            except NoPlaceError:
                pass  # it remains anonymous
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
    """Return the identity in the peer's certificate, None without a certificate or an identity."""
    try:
        return peer_certificate(transport.get_extra_info("ssl_object")).identity
    except IdentityError:
        return None
