"""HTTPS for aiohttp applications: mutual TLS from `pki`, bounded in time, size and number, and a stop that drains.

The listener knows nothing of routes. `daemon.monitoring` makes the application for /health, /ready and
/metrics; the gateway brings its own. Connections stay open between requests, so the listener looks at each twice a
second, and closes those whose certificate has expired or was revoked.
"""

import asyncio
import errno
import logging
import socket
import ssl
from datetime import UTC, datetime

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from daemon.acceptor import TlsAcceptor
from daemon.errors import ListenError
from pki.tls import IdentityError, PeerCertificate, TlsMaterial

log = logging.getLogger("zkp.daemon")

KEEP_ALIVE_SECONDS = 60.0
"""How long a connection may be without a complete request: before its first one, and between two."""
MAX_CONNECTIONS = 1024
"""Open at a time on one address, for those who watch a daemon."""

_LOOK_PERIOD = 0.5
_MAX_HEADER_BYTES = 8190  # each line
_BACKLOG = 256


class WithoutWhatWasSent(logging.Filter):
    """Keeps the bytes of broken requests out of the log: they may be the rest of a body, with private inputs."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            record.msg, record.args = "a caller sent what is no HTTP request (%s)", (type(error).__name__,)
            record.exc_info = record.exc_text = None
        return True


HTTP_ERRORS = WithoutWhatWasSent()
"""For the logger "aiohttp.server"; one, so that adding it again changes nothing."""


class HttpsListener:
    """Serves an application on one address.

    require_client: refuse who shows no certificate; who shows one is verified either way. max_connections: further
    ones are closed at once. stop_timeout: seconds that requests may take to finish once the listener stops.
    """

    def __init__(
        self,
        application: web.Application,
        host: str,
        port: int,
        material: TlsMaterial,
        *,
        require_client: bool = True,
        max_connections: int = MAX_CONNECTIONS,
        stop_timeout: float = 5.0,
    ) -> None:
        self._host = host
        self._port = port
        self._material = material
        self._require_client = require_client
        self._max_connections = max_connections
        self._looking: asyncio.Task[None] | None = None
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
        logging.getLogger("aiohttp.server").addFilter(HTTP_ERRORS)
        context = self._material.server_context(require_client=self._require_client)
        self._acceptor = TlsAcceptor(
            listening, context, server, has_room=lambda: len(server.connections) < self._max_connections
        )
        self._acceptor.start()
        self._looking = asyncio.create_task(self._look_regularly(server), name=f"look at connections of {self._port}")

    async def stop(self) -> None:
        """Take no more connections, let requests finish, close what is idle."""
        if self._acceptor is not None:
            await self._acceptor.stop()
            self._acceptor = None
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        await self._runner.cleanup()

    async def _look_regularly(self, server: web.Server) -> None:
        while True:
            await asyncio.sleep(_LOOK_PERIOD)
            now = datetime.now(UTC)
            for connection in server.connections:
                if connection.transport is not None:
                    self._look_at(connection.transport, now)

    def _look_at(self, transport: asyncio.Transport, now: datetime) -> None:
        """Close the connection if its certificate is good no more; one without a certificate shows keys instead."""
        tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        if not tls.getpeercert(binary_form=True):
            return
        try:
            self._material.check_peer(tls, now)
        except IdentityError as error:
            peer = transport.get_extra_info("peername")
            log.warning("closed a connection: %s", error, extra={"peer": f"{peer[0]}:{peer[1]}" if peer else None})
            transport.abort()


def certificate_of(request: web.BaseRequest, material: TlsMaterial, now: datetime) -> PeerCertificate:
    """The certificate of whoever sent the request, good at `now` (with time zone).

    Raises IdentityError when there is none, it names nobody of the trust domain, or it has expired or was revoked
    since the connection was made.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the peer went away")
    return material.check_peer(transport.get_extra_info("ssl_object"), now)


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
