"""The gateway's web application: its pages behind its middlewares. Everything it needs is handed in."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from gateway import openapi
from gateway.handlers import TaskHandlers
from gateway.middleware import AuthMiddleware, RequestMiddleware
from zkp.daemon.health import Status

Ready = Callable[[], bool]
"""Whether callers can be served now."""

Page = Callable[[web.Request], Awaitable[web.Response]]


def application(
    pages: TaskHandlers,
    edge: RequestMiddleware,
    guard: AuthMiddleware,
    *,
    healthy: Ready,
    ready: Ready,
    max_body: int,
) -> web.Application:
    """`healthy` and `ready` must not block; `max_body` in bytes, for the description."""
    app = web.Application(middlewares=[edge.middleware(), guard.middleware()])
    app.add_routes(pages.routes())
    app.add_routes(
        [
            web.get("/health", _state(healthy), allow_head=False),
            web.get("/ready", _state(ready), allow_head=False),
            web.get("/openapi.json", _document(openapi.document(max_body)), allow_head=False),
        ]
    )
    app.on_shutdown.append(pages.stop_waiting)
    return app


def _state(well: Ready) -> Page:
    """For load balancers, which have no certificate: of the shape of /health only the status."""

    async def state(_: web.Request) -> web.Response:
        ok = well()
        return web.json_response({"status": Status.OK if ok else Status.UNAVAILABLE}, status=200 if ok else 503)

    return state


def _document(content: Mapping[str, object]) -> Page:
    async def describe(_: web.Request) -> web.Response:
        return web.json_response(content)

    return describe
