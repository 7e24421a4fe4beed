"""The gateway's web application: endpoints behind their middlewares. All dependencies are parameters."""

from collections.abc import Awaitable, Callable, Mapping

from aiohttp import web

from gateway import openapi
from gateway.handlers import TaskHandlers
from gateway.middleware import AuthMiddleware, RequestMiddleware
from zkp.daemon.health import Status

Ready = Callable[[], bool]
"""Whether callers can be served now."""

Handler = Callable[[web.Request], Awaitable[web.Response]]


def application(
    handlers: TaskHandlers,
    request_middleware: RequestMiddleware,
    auth_middleware: AuthMiddleware,
    *,
    healthy: Ready,
    ready: Ready,
    max_body: int,
) -> web.Application:
    """Return the application.

    Args:
        handlers: The task endpoints.
        request_middleware: Outermost middleware.
        auth_middleware: Applied inside `request_middleware`.
        healthy: Source of the status of /health; must not block.
        ready: Source of the status of /ready; must not block.
        max_body: Largest request body in bytes, for the API description.
    """
    app = web.Application(middlewares=[request_middleware.middleware(), auth_middleware.middleware()])
    app.add_routes(handlers.routes())
    app.add_routes(
        [
            web.get("/health", _status_handler(healthy), allow_head=False),
            web.get("/ready", _status_handler(ready), allow_head=False),
            web.get("/openapi.json", _document_handler(openapi.document(max_body)), allow_head=False),
        ]
    )
    app.on_shutdown.append(handlers.stop_waiting)
    return app


def _status_handler(is_healthy: Ready) -> Handler:
    """Return a handler for load balancers, which have no certificate: only `status` of the /health document."""

    async def state(_: web.Request) -> web.Response:
        ok = is_healthy()
        return web.json_response({"status": Status.OK if ok else Status.UNAVAILABLE}, status=200 if ok else 503)

    return state


def _document_handler(content: Mapping[str, object]) -> Handler:
    async def describe(_: web.Request) -> web.Response:
        return web.json_response(content)

    return describe
