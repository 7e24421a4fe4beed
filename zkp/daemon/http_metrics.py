"""Metrics of a daemon's own HTTP endpoints: requests by endpoint and status.

The labels are those of the gateway's request counter. `route` is an existing endpoint or "unknown", so that requests
for other paths cannot create new series.
"""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, Counter

_UNKNOWN_ROUTE = "unknown"


class PageRequests:
    """Counter of the requests of all applications of one daemon. One per registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "zkp_https_requests",
            "Requests to this daemon's own endpoints, by endpoint and status. 403: a certificate without the "
            "required role, the log names it. 503: /health or /ready is negative.",
            ["route", "code"],
            registry=registry,
        )

    def middleware(self) -> Middleware:
        """Return the aiohttp middleware. It must be the outermost, to count the response that is sent."""

        @web.middleware
        async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await handler(request)
            resource = request.match_info.route.resource
            route = _UNKNOWN_ROUTE if resource is None else resource.canonical
            self._requests.labels(route, str(response.status)).inc()
            return response

        return counted
