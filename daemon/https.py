"""HTTPS for aiohttp applications: mutual TLS from `pki`, bounded in time and size, and a stop that drains.

The listener knows nothing of routes. `daemon.monitoring` makes the application for /health, /ready and
/metrics; the gateway brings its own.
"""

import asyncio
import errno
import socket
import ssl
from datetime import datetime

from aiohttp import web

from daemon.acceptor import TlsAcceptor
from daemon.errors import ListenError
from pki.tls import PeerCertificate, peer_certificate

KEEP_ALIVE_SECONDS = 60.0
"""How long a connection may be without a complete request: before its first one, and between two."""

_MAX_HEADER_BYTES = 8190  # each line
_BACKLOG = 256


class HttpsListener:
    """Serves an application on one address.

    context: from `TlsMaterial.server_context()`, which follows reloads by itself.
    stop_timeout: seconds that requests may take to finish once the listener stops.
    """

    def __init__(
        self,
        application: web.Application,
        host: str,
        port: int,
        context: ssl.SSLContext,
        *,
        stop_timeout: float = 5.0,
    ) -> None:
        self._host = host
        self._port = port
        self._context = context
        self._runner = web.AppRunner(
            application,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            shutdown_timeout=stop_timeout,
        )
        self._acceptor: TlsAcceptor | None = None

    @property
    def port(self) -> int:
        """The port it listens on; the given one until it is started."""
        return self._port

    async def start(self) -> None:
        """Listen. Raises ListenError when the address cannot be had."""
        listening = await _listen(self._host, self._port)
        self._port = listening.getsockname()[1]
        await self._runner.setup()
        server = self._runner.server
        if server is None:
            raise RuntimeError("aiohttp made no server")
        self._acceptor = TlsAcceptor(listening, self._context, server)
        self._acceptor.start()

    async def stop(self) -> None:
        """Take no more connections, let requests finish, close what is idle."""
        if self._acceptor is not None:
            await self._acceptor.stop()
            self._acceptor = None
        await self._runner.cleanup()


def certificate_of(request: web.BaseRequest, trust_domain: str, now: datetime) -> PeerCertificate:
    """The certificate of whoever sent the request, valid at `now` (with time zone).

    Raises IdentityError when there is none, it names nobody of the trust domain, or it has expired since the
    connection was made.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the peer went away")
    certificate = peer_certificate(transport.get_extra_info("ssl_object"))
    certificate.check(trust_domain, now)
    return certificate


async def _listen(host: str, port: int) -> socket.socket:
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ListenError(f"cannot listen on {place}: {error.strerror}; give an address of this machine") from None
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise ListenError(f"cannot listen on {place}: {error.strerror}; {_cure(error)}") from None
    return listening


def _cure(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "stop the process that has this port, or give another"
        case errno.EADDRNOTAVAIL:
            return "give an address of this machine, or 0.0.0.0"
        case errno.EACCES:
            return "give a port of 1024 or above"
    return "give another address"
