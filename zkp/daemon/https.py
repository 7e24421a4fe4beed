"""HTTPS for aiohttp applications: mutual TLS from `pki`, bounded in time, size and number, with a graceful stop.

The listener has no routes. `daemon.monitoring` makes the application for /health, /ready and /metrics; the gateway
has its own. Connections stay open between requests, so the listener checks each twice per second, and closes those
whose certificate has expired or was revoked.
"""

import asyncio
import errno
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import (
    ContentLengthError,
    HttpProcessingError,
    InvalidHeader,
    LineTooLong,
    TransferEncodingError,
)
from aiohttp.web_protocol import RequestHandler

from pki.tls.material import IdentityError, PeerCertificate, TlsMaterial
from zkp.daemon.acceptor import BACKLOG, TlsAcceptor
from zkp.daemon.bounded_log import BoundedLog
from zkp.daemon.connections import Bounds, CallerOf, Connections
from zkp.daemon.errors import ListenError
from zkp.daemon.listening import listen, peer_text
from zkp.daemon.problems import INTERNAL, MALFORMED, ErrorPage, HttpRefusal, error_page, of_framework
from zkp.daemon.settings import Address

log = logging.getLogger("zkp.daemon")

KEEP_ALIVE_TIMEOUT_S = 60.0
"""Limit for a connection without a complete request: before the first one, and between two."""
BOUNDS = Bounds(known=1024)
"""Bounds for monitoring, whose clients all have certificates."""

_Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

_CHECK_INTERVAL_S = 0.5
_MAX_HEADER_BYTES = 8190  # per line


class _Connection(RequestHandler):
    """Answers malformed requests like other errors of the application, and logs them without their bytes.

    The bytes of a malformed request may be the rest of a body, with private inputs.
    """

    __slots__ = ("_error_page", "_refusals")

    def __init__(self, server: web.Server, error_page: ErrorPage, refusals: BoundedLog) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **server._kwargs)  # as the server does
        self._error_page = error_page
        self._refusals = refusals

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's text, which quotes the request
    ) -> web.StreamResponse:
        """Return the response to a malformed request or a failed handler; the connection is closed."""
        self.log_exception("request failed with status %d", status, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the response has already started")
        malformed = isinstance(exc, HttpProcessingError)
        refusal = (
            HttpRefusal(MALFORMED, _reason(exc))
            if malformed
            else HttpRefusal(INTERNAL, "internal error, see the log")
        )
        response = self._error_page(refusal)
        response.force_close()
        return response

    def log_exception(self, *args: object, **more: Any) -> None:  # noqa: ANN401 - aiohttp's signature
        """Log a malformed request as a rate-limited warning with the peer, and anything else as an error."""
        error = more.get("exc_info")
        if isinstance(error, HttpProcessingError):
            peer = None if self.transport is None else self.transport.get_extra_info("peername")
            self._refusals.warning(
                f"malformed HTTP request ({type(error).__name__})", peer_text(peer) if peer else None
            )
        else:
            super().log_exception(*args, **more)


def _reason(error: BaseException | None) -> str:
    """Return why a request is malformed, without its bytes."""
    if isinstance(error, LineTooLong):
        return f"the request line or a header is longer than {_MAX_HEADER_BYTES} bytes"
    if isinstance(error, InvalidHeader):
        return "a header is malformed"
    if isinstance(error, TransferEncodingError | ContentLengthError):
        return "the body's length or transfer encoding is malformed"
    return "the request cannot be parsed; send HTTP/1.1 (RFC 9112)"


class HttpsListener:
    """HTTPS server for one application on one address. Request bodies are not decompressed.

    Args:
        application: Application to serve.
        host: Address or host name to listen on.
        port: Port, 0 for any.
        material: Credentials of this process.
        require_client: Refuse peers without a certificate. A certificate is verified in either case.
        bounds: See `connections`.
        caller_of: Returns the caller of a request, for applications with other credentials than certificates.
        stop_timeout: Limit in seconds for open requests when the listener stops.
        errors: Makes the responses to requests that never reach the application, such as malformed ones.
    """

    def __init__(
        self,
        application: web.Application,
        host: str,
        port: int,
        material: TlsMaterial,
        *,
        require_client: bool = True,
        bounds: Bounds = BOUNDS,
        caller_of: CallerOf = lambda _: None,
        stop_timeout: float = 5.0,
        errors: ErrorPage = error_page,
    ) -> None:
        self._host = host
        self._port = port
        self._material = material
        self._require_client = require_client
        self._connections = Connections(bounds, caller_of)
        application.middlewares.insert(0, self._connections.middleware())
        self._checking: asyncio.Task[None] | None = None
        self._runner = web.AppRunner(
            application,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_TIMEOUT_S,
            max_line_size=_MAX_HEADER_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            shutdown_timeout=stop_timeout,
            auto_decompress=False,
        )
        self._errors = errors
        self._acceptor: TlsAcceptor | None = None

    @property
    def port(self) -> int:
        """The port that it listens on; the given one before the start."""
        return self._port

    async def start(self) -> None:
        """Start to listen.

        Raises:
            ListenError: The address cannot be used.
        """
        listening = await _listen(self._host, self._port)
        self._port = listening.getsockname()[1]
        await self._runner.setup()
        server = self._runner.server
        if server is None:
            raise RuntimeError("aiohttp made no server")
        server.request_handler = self._answering(server.request_handler)
        connection = partial(_Connection, server, self._errors, BoundedLog(log, time.monotonic))
        context = self._material.server_context(require_client=self._require_client)
        self._acceptor = TlsAcceptor(listening, context, connection, on_connected=self._connections.on_connected)
        self._acceptor.start()
        self._checking = asyncio.create_task(self._check_regularly(server), name=f"check connections of {self._port}")

    async def stop(self) -> None:
        """Stop accepting, wait for open requests, close idle connections."""
        if self._acceptor is not None:
            await self._acceptor.stop()
            self._acceptor = None
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None
        await self._runner.cleanup()

    def _answering(self, handler: _Handler) -> _Handler:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            try:
                return await handler(request)
            except web.HTTPException as error:  # before the application's middlewares: an unknown Expect
                refusal = of_framework(error)
                if refusal is None:
                    raise
                return self._errors(refusal)

        return answer

    async def _check_regularly(self, server: web.Server) -> None:
        while True:
            await asyncio.sleep(_CHECK_INTERVAL_S)
            self._connections.check()
            now = datetime.now(UTC)
            for connection in server.connections:
                if connection.transport is not None:
                    self._check_certificate(connection.transport, now)

    def _check_certificate(self, transport: asyncio.Transport, now: datetime) -> None:
        """Close the connection if its certificate is no longer valid. Callers without one have API keys."""
        tls: ssl.SSLObject = transport.get_extra_info("ssl_object")
        if not tls.getpeercert(binary_form=True):
            return
        try:
            self._material.check_peer(tls, now)
        except IdentityError as error:
            peer = transport.get_extra_info("peername")
            log.warning("closed a connection: %s", error, extra={"peer": peer_text(peer) if peer else None})
            transport.abort()


def certificate_of(request: web.BaseRequest, material: TlsMaterial, now: datetime) -> PeerCertificate:
    """Return the certificate of the client of a request, valid at `now` (with time zone).

    Raises:
        IdentityError: There is none, it has no identity in the trust domain, or it has expired or was revoked since
            the handshake.
    """
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the peer closed the connection")
    return material.check_peer(transport.get_extra_info("ssl_object"), now)


async def _listen(host: str, port: int) -> socket.socket:
    address = Address(host, port)
    try:
        return await listen(host, port, backlog=BACKLOG)
    except socket.gaierror as error:
        raise ListenError(f"cannot listen on {address}: {error.strerror}; give an address of this machine") from None
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {error.strerror}; {_hint(error)}") from None


def _hint(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "stop the process that has this port, or give another"
        case errno.EADDRNOTAVAIL:
            return "give an address of this machine, or 0.0.0.0, or [::]"
        case errno.EACCES:
            return "give a port of 1024 or above"
    return "give another address"
