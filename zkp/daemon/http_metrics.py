"""What Prometheus may know of a daemon's own pages: how often they are asked for, and how that ends.

The labels are those of the gateway's count of its callers. `route` is a page that exists, or "unknown" whatever was
asked for, so that nobody who asks for new paths makes new series.
"""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from prometheus_client import CollectorRegistry, Counter

_UNKNOWN_ROUTE = "unknown"


class PageRequests:
    """Counts the requests of all applications of one daemon: one for a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "zkp_https_requests",
            "Requests for this daemon's own pages, by page and status. 403: a certificate without the right to the "
            "page, the log says whose. 503: /health or /ready says no.",
            ["route", "code"],
            registry=registry,
        )

    def middleware(self) -> Middleware:
        """As aiohttp takes it. Put it outermost, where the answer is the one that is sent."""

        @web.middleware
        async def counted(request: web.Request, handler: Handler) -> web.StreamResponse:
            response = await handler(request)
            resource = request.match_info.route.resource
            route = _UNKNOWN_ROUTE if resource is None else resource.canonical
            self._requests.labels(route, str(response.status)).inc()
            return response

        return counted
