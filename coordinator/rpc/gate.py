"""Cross-cutting handling of every RPC: authentication, authorization, deadline, error mapping, metrics.

`CallGuard` wraps every handler, also those of the health and reflection services. Handlers raise domain errors and
never set status codes; unexpected errors are logged here and answered with INTERNAL, without their messages.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any

import grpc

from coordinator.errors import TimedOut, TooLarge, Unavailable
from coordinator.raft import NotLeader
from coordinator.rpc.authorization import Authorization
from coordinator.rpc.errors import KNOWN, FindLeader, RpcStatus, status_of
from coordinator.rpc.open_calls import OpenCalls
from pki.tls.material import PeerCertificate
from pki.x509.identity import Identity
from zkp.daemon.bounded_log import BoundedLog

log = logging.getLogger("zkp.coordinator")

_MAX_STREAM_S = 7 * 86400.0  # the age of connections ends streams long before
_TIMER_MARGIN_S = 0.01  # timers of the event loop are rounded: a stream is not ended before its certificate
_LEADER_POLLS, _LEADER_POLL_S = 15, 0.02
_INTERNAL = RpcStatus(grpc.StatusCode.INTERNAL, "internal error; see the coordinator's log")

_CODE_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}

_caller: ContextVar[PeerCertificate] = ContextVar("caller")

Handler = Any  # an RpcMethodHandler, or a method of a servicer: gRPC types neither
Context = grpc.aio.ServicerContext[Any, Any]


CallObserver = Callable[[str, str, float | None], None]
"""Called for each call that ended with its method, the name of its gRPC status, and its duration in seconds (None: a
stream)."""


def caller() -> Identity:
    """Return the identity of the caller whose RPC is being handled."""
    return _caller.get().identity


def caller_serial() -> str:
    """Return the serial number of that caller's certificate, hexadecimal."""
    return f"{_caller.get().serial:x}"


class CallGuard(grpc.GenericRpcHandler):
    """The guard around all handlers. `unary_limit_s` is the time limit of a unary call.

    What the generated `add_…_to_server` functions take for a server: handlers are added here and looked up here, so
    that none can be reached without the guard. An interceptor would cost one more coroutine per call.
    """

    def __init__(
        self,
        authorization: Authorization,
        find_leader: FindLeader,
        observer: CallObserver,
        open_calls: OpenCalls,
        *,
        unary_limit_s: float = 30.0,
    ) -> None:
        self._authorization = authorization
        self._find_leader = find_leader
        self._observer = observer
        self._unary_limit_s = unary_limit_s
        self._open_calls = open_calls
        self._services: list[grpc.GenericRpcHandler] = []
        self._wrapped: dict[str, Handler] = {}
        self._log = BoundedLog(log, time.monotonic)

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Add a service to the guarded ones."""
        self._services += handlers

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Do nothing: the generated code adds the same handlers as generic ones, too."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """Return the guarded handler of a method; None, which gRPC answers with UNIMPLEMENTED, for an unknown one."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = next(filter(None, (service.service(handler_call_details) for service in self._services)), None)
            if handler is None:
                return None
            wrapped = self._wrapped[method] = self._wrap(method, handler)
        return wrapped

    def _wrap(self, method: str, handler: Handler) -> Handler:
        serializers = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.response_streaming:
            inner = handler.stream_stream if handler.request_streaming else handler.unary_stream
            make = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
            return make(self._streaming(method, inner), **serializers)
        if handler.request_streaming:
            return grpc.stream_unary_rpc_method_handler(self._unary(method, handler.stream_unary), **serializers)
        return grpc.unary_unary_rpc_method_handler(self._unary(method, handler.unary_unary), **serializers)

    def _unary(self, method: str, inner: Handler) -> Handler:
        async def behaviour(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
            return await self._guard(method, context, lambda: _answer(inner, request, context), self._unary_limit_s)

        return behaviour

    def _streaming(self, method: str, inner: Handler) -> Handler:
        """A stream ends, at the latest, when the certificate that opened it expires or is revoked."""
        if not inspect.isasyncgenfunction(inner):
            return self._writing(method, inner)

        async def behaviour(request: Any, context: Context) -> None:  # noqa: ANN401
            async def run() -> None:
                # Closed here, in this task: its cleanup must not wait for the garbage collector.
                answers = inner(request, context)
                try:
                    async for answer in answers:
                        await context.write(answer)
                finally:
                    await answers.aclose()

            await self._guard(method, context, run, None)

        return behaviour

    def _writing(self, method: str, inner: Handler) -> Handler:
        async def behaviour(request: Any, context: Context) -> None:  # noqa: ANN401
            await self._guard(method, context, lambda: inner(request, context), None)

        return behaviour

    async def _guard(
        self, method: str, context: Context, run: Callable[[], Awaitable[Any]], limit_s: float | None
    ) -> Any:  # noqa: ANN401 - any message
        code = "CANCELLED"
        began = time.perf_counter()
        try:
            status, answer = await self._attempt(method, context, run, limit_s)
            if status is not None:
                code = status.code.name
                await context.abort(status.code, status.details, status.metadata)
            code = _code_name(context)
        except grpc.aio.AbortError:
            code = _code_name(context)
            raise
        else:
            return answer
        finally:
            self._observer(method, code, None if limit_s is None else time.perf_counter() - began)

    async def _attempt(
        self, method: str, context: Context, run: Callable[[], Awaitable[Any]], limit_s: float | None
    ) -> tuple[RpcStatus | None, Any]:
        """Either the status with which to end the call, or its answer."""
        try:
            certificate, valid_s = self._authorization.admit(method, context.auth_context(), context.peer())
            _caller.set(certificate)
            limit = min(valid_s + _TIMER_MARGIN_S, _MAX_STREAM_S) if limit_s is None else limit_s
            try:
                async with asyncio.timeout(limit) as timeout:
                    with self._open_calls.holding(certificate.serial, timeout):
                        return None, await run()
            except TimeoutError:
                if not timeout.expired():
                    raise
            # Raises if the certificate has expired or was revoked.
            self._authorization.admit(method, context.auth_context(), context.peer())
            return status_of(_deadline_error(limit_s), self._find_leader), None
        except TooLarge as error:
            who = _caller.get().identity
            self._log.warning(f"call of {method} by {who} refused: {error}", context.peer())
            return status_of(error, self._find_leader), None
        except KNOWN as error:
            if isinstance(error, NotLeader) and limit_s is None:
                await self._wait_for_leader()
            return status_of(error, self._find_leader), None
        except grpc.aio.AbortError:
            raise
        except NotImplementedError:
            return RpcStatus(grpc.StatusCode.UNIMPLEMENTED, f"{method} is not implemented"), None
        except Exception:
            log.exception("call of %s failed", method)
            return _INTERNAL, None

    async def _wait_for_leader(self) -> None:
        """Wait briefly, so that the redirect names the newly elected leader: streams end at deposition."""
        for _ in range(_LEADER_POLLS):
            if self._find_leader() is not None:
                return
            await asyncio.sleep(_LEADER_POLL_S)


def _answer(inner: Handler, request: object, context: Context) -> Awaitable[Any]:
    """Call a handler of a unary request; the server puts the error in the place of a message that is too large."""
    if isinstance(request, TooLarge):
        raise request
    answer: Awaitable[Any] = inner(request, context)
    return answer


def _code_name(context: Context) -> str:
    """What a handler of the standard services has set, which gRPC keeps as a number; nothing is set: all is well."""
    code = context.code()
    if code is None:
        return grpc.StatusCode.OK.name
    return code.name if isinstance(code, grpc.StatusCode) else _CODE_NAMES.get(code, "UNKNOWN")


def _deadline_error(limit_s: float | None) -> Exception:
    if limit_s is None:
        return Unavailable("the stream reached its maximum lifetime; reconnect")
    return TimedOut(f"no answer within {limit_s:g} s")
