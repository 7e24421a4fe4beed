"""Monitoring endpoints of a daemon: /health and /ready for every role, /metrics for Prometheus and admins.

The certificate is checked on each request, so that an expired or revoked one also stops working on open connections.
Responses are JSON, except for the metrics; errors are problem details (RFC 9457).
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from pki.tls.material import IdentityError, TlsMaterial
from pki.x509.identity import Role
from zkp.daemon.http_metrics import PageRequests
from zkp.daemon.https import certificate_of
from zkp.daemon.problems import FORBIDDEN, INTERNAL, HttpRefusal, error_page, of_framework

log = logging.getLogger("zkp.daemon")

Report = Callable[[], tuple[bool, Mapping[str, object]]]
"""Returns whether the daemon is healthy, and the body of the response (JSON values). Must not block."""

EVERYBODY = frozenset(Role)
METRICS_READERS = frozenset({Role.PROMETHEUS, Role.ADMIN})

_Answer = Callable[[], web.StreamResponse]
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _utc_now() -> datetime:
    return datetime.now(UTC)


def monitoring_application(
    material: TlsMaterial,
    *,
    health: Report | None = None,
    ready: Report | None = None,
    registry: CollectorRegistry | None = None,
    requests: PageRequests | None = None,
    clock: Callable[[], datetime] = _utc_now,
) -> web.Application:
    """An application with the routes for which something is given. A report that is not ok answers 503.

    material: this process's, which knows whose certificates are good. requests: what counts them, where they are
    counted; a daemon with several applications has one.
    """
    gate = _Gate(material, clock)
    counting = () if requests is None else (requests.middleware(),)
    application = web.Application(middlewares=[*counting, _errors_as_json])
    if health is not None:
        application.router.add_get("/health", gate.open_to(EVERYBODY, _reporting(health)))
    if ready is not None:
        application.router.add_get("/ready", gate.open_to(EVERYBODY, _reporting(ready)))
    if registry is not None:
        application.router.add_get("/metrics", gate.open_to(METRICS_READERS, _exposing(registry)))
    return application


class _Gate:
    """Authorization by role."""

    def __init__(self, material: TlsMaterial, clock: Callable[[], datetime]) -> None:
        self._material = material
        self._clock = clock

    def open_to(self, roles: frozenset[Role], answer: _Answer) -> _Handler:
        async def handler(request: web.Request) -> web.StreamResponse:
            if refusal := self._refusal(request, roles):
                log.warning("refused %s: %s", request.path, refusal, extra={"peer": request.remote})
                return error_page(HttpRefusal(FORBIDDEN, refusal))
            return answer()

        return handler

    def _refusal(self, request: web.Request, roles: frozenset[Role]) -> str | None:
        try:
            identity = certificate_of(request, self._material, self._clock()).identity
        except IdentityError as error:
            return str(error)
        if identity.role in roles:
            return None
        wanted = " or ".join(sorted(roles))
        return f"{request.path} needs a certificate of the role {wanted}, and {identity} has another"


def _reporting(report: Report) -> _Answer:
    def answer() -> web.StreamResponse:
        ok, body = report()
        return web.json_response(dict(body), status=200 if ok else 503)

    return answer


def _exposing(registry: CollectorRegistry) -> _Answer:
    def answer() -> web.StreamResponse:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return answer


@web.middleware
async def _errors_as_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        refusal = of_framework(error)
        if refusal is None:
            log.error("%s: unexpected status %d of the framework", request.path, error.status)
            refusal = HttpRefusal(INTERNAL, "internal error, see the log")
        return error_page(refusal)
    except Exception:
        log.exception("%s failed", request.path)
        return error_page(HttpRefusal(INTERNAL, "internal error, see the log"))
