"""Middlewares for every request: request id, authentication, rate limit, access log and metrics.

`RequestMiddleware` is outermost: it assigns the request id, turns exceptions into problem details, and records the
outcome in log and metrics. Inside it, `AuthMiddleware` admits authenticated callers to the task endpoints, within
their rate limits. Neither reads a body, and no query string is logged.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import Callable
from datetime import datetime

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, Counter, Histogram

from gateway import problems
from gateway.callers import Callers
from gateway.handlers import CALLER, SUBMITTED
from gateway.problems import ApiProblem
from gateway.ratelimit import RateLimit
from pki.tls.material import TlsMaterial
from pki.x509.identity import Identity
from zkp.daemon.https import certificate_of
from zkp.daemon.problems import CONTENT_TYPE, HttpRefusal, of_framework
from zkp.protocol.limits import TASK_ID_PATTERN

log = logging.getLogger("zkp.gateway")

REQUEST_ID = "X-Request-Id"
REQUEST_ID_PATTERN = r"^[A-Za-z0-9._-]{1,64}$"
PUBLIC = frozenset({"/health", "/ready", "/openapi.json"})

_REQUEST_ID = re.compile(REQUEST_ID_PATTERN)
_TASK_ID = re.compile(TASK_ID_PATTERN)
_ID_KEY: web.RequestKey[str] = web.RequestKey("request_id", str)
_METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"})
_UNKNOWN_ROUTE = "unknown"
_CLIENT_CLOSED_REQUEST = 499  # the caller closed the connection; counted and logged, never sent
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Server": "zkp-gateway"}
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class RequestMiddleware:
    """The outermost middleware. `clock` is monotonic, in seconds."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._requests = Counter(
            "zkp_gateway_requests",
            "Requests answered, by method, endpoint and status. For 5xx see the gateway log.",
            ["method", "route", "code"],
            registry=registry,
        )
        self._seconds = Histogram(
            "zkp_gateway_request_seconds",
            "Time from the request head to the response, in seconds; includes long polls.",
            ["method", "route"],
            buckets=_BUCKETS_S,
            registry=registry,
        )

    def middleware(self) -> Middleware:
        """Return the middleware function for aiohttp."""

        @web.middleware
        async def handle(request: web.Request, handler: Handler) -> web.StreamResponse:
            request[_ID_KEY] = _request_id(request)
            started = self._clock()
            try:
                response = await _handle_errors(request, handler)
            except asyncio.CancelledError:
                self._record(request, _CLIENT_CLOSED_REQUEST, started)
                raise
            response.headers.update({**_HEADERS, REQUEST_ID: request[_ID_KEY]})
            self._record(request, response.status, started)
            return response

        return handle

    def error_response(self, refusal: HttpRefusal) -> web.Response:
        """Return the response to a request that reaches no middleware, such as malformed HTTP.

        The response is counted and carries a request id.
        """
        request_id = secrets.token_hex(8)
        response = problem_response(ApiProblem(refusal.kind, refusal.detail, headers=refusal.headers), request_id)
        response.headers.update({**_HEADERS, REQUEST_ID: request_id})
        self._requests.labels("other", _UNKNOWN_ROUTE, str(response.status)).inc()
        return response

    def _record(self, request: web.Request, status: int, started: float) -> None:
        seconds = self._clock() - started
        method = request.method if request.method in _METHODS else "other"
        route = _route(request)
        task_id = request.get(SUBMITTED) or request.match_info.get("id", "")
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)
        log.log(
            logging.DEBUG if route in PUBLIC else logging.INFO,
            "%s %s answered %d in %.0f ms",
            method,
            route,
            status,
            seconds * 1000,
            extra={
                "request_id": request[_ID_KEY],
                "peer": request.get(CALLER),
                "task_id": task_id if _TASK_ID.fullmatch(task_id) else None,
            },
        )


class AuthMiddleware:
    """Admits authenticated callers within their rate limits; others reach only the PUBLIC endpoints.

    `material` validates certificates, at the time-zone-aware time of `clock`: a certificate may expire or be revoked
    while its connection is open.
    """

    def __init__(
        self, callers: Callers, limit: RateLimit, material: TlsMaterial, clock: Callable[[], datetime]
    ) -> None:
        self._callers = callers
        self._limit = limit
        self._material = material
        self._clock = clock

    def middleware(self) -> Middleware:
        """Return the middleware function for aiohttp."""

        @web.middleware
        async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
            if _route(request) not in PUBLIC:
                self._authorize(request)
            return await handler(request)

        return authenticate

    def _authorize(self, request: web.Request) -> None:
        def peer() -> Identity:
            return certificate_of(request, self._material, self._clock()).identity

        caller = self._callers.identify(request.headers.getall("Authorization", ()), peer)
        request[CALLER] = caller
        wait = self._limit.take(caller)
        if wait:
            detail = "rate limit exceeded; retry after the time in Retry-After"
            raise ApiProblem(problems.RATE_LIMITED, detail, retry_after=wait)


def problem_response(problem: ApiProblem, request_id: str) -> web.Response:
    """Return the problem details as a response."""
    return web.json_response(
        problem.document(request_id),
        status=problem.kind.status,
        headers=problem.headers,
        content_type=CONTENT_TYPE,
    )


async def _handle_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ApiProblem as problem:
        return problem_response(problem, request[_ID_KEY])
    except web.HTTPException as error:
        return problem_response(_router_problem(error), request[_ID_KEY])
    except Exception:
        if request.transport is None:
            return web.Response(status=_CLIENT_CLOSED_REQUEST)
        log.exception("request failed", extra={"request_id": request[_ID_KEY], "peer": request.get(CALLER)})
        return problem_response(_internal(), request[_ID_KEY])


def _router_problem(error: web.HTTPException) -> ApiProblem:
    """Return the problem for an exception raised by aiohttp's router."""
    refusal = of_framework(error)
    if refusal is None:
        log.error("unexpected status %d from the HTTP framework", error.status)
        return _internal()
    if refusal.kind is problems.NO_SUCH_PAGE:
        return ApiProblem(refusal.kind, "this endpoint does not exist; see /openapi.json")
    return ApiProblem(refusal.kind, refusal.detail, headers=refusal.headers)


def _internal() -> ApiProblem:
    return ApiProblem(problems.INTERNAL, "internal error; quote request_id to the operator of the gateway")


def _route(request: web.Request) -> str:
    """Return the endpoint's path template, with parameter names in place of values."""
    resource = request.match_info.route.resource
    return _UNKNOWN_ROUTE if resource is None else resource.canonical


def _request_id(request: web.Request) -> str:
    """Return the caller's request id if it is well-formed, otherwise a new one."""
    given = request.headers.get(REQUEST_ID, "")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
