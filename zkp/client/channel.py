"""One gRPC connection to one coordinator, with its errors translated to `CallFailed`."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import grpc

from zkp.client.failures import CallFailed
from zkp.protocol.v1 import coordinator_pb2_grpc as pb_grpc

if TYPE_CHECKING:  # generic, and asynchronous, for the type checker only
    from grpc.aio import StreamStreamMultiCallable, UnaryStreamMultiCallable, UnaryUnaryMultiCallable

    from zkp.protocol.v1.coordinator_pb2_grpc import (
        AdminServiceAsyncStub,
        RevocationServiceAsyncStub,
        TaskServiceAsyncStub,
        WorkerServiceAsyncStub,
    )

Req = TypeVar("Req")
Resp = TypeVar("Resp")

# grpc.aio reports this for a write to a stream that the server has ended; the server's own status is lost.
_WRITE_FAILED = "Internal error from Core"
_DRAIN_S = 30.0  # longer than any unary call may take at one address


@dataclass(frozen=True, slots=True)
class Stubs:
    """The services of one coordinator."""

    tasks: "TaskServiceAsyncStub"
    workers: "WorkerServiceAsyncStub"
    admin: "AdminServiceAsyncStub"
    revocations: "RevocationServiceAsyncStub"


class Channel(Protocol):
    """A connection to one coordinator. Every failure of a call is a `CallFailed`."""

    @property
    def address(self) -> str:
        """HOST:PORT."""
        ...

    async def call(
        self, method: "Callable[[Stubs], UnaryUnaryMultiCallable[Req, Resp]]", request: Req, *, timeout: float
    ) -> Resp:
        """Make a unary call with a deadline of `timeout` seconds."""
        ...

    def stream(
        self, method: "Callable[[Stubs], UnaryStreamMultiCallable[Req, Resp]]", request: Req
    ) -> AsyncGenerator[Resp, None]:
        """Make a server-streaming call."""
        ...

    def exchange(
        self,
        method: "Callable[[Stubs], StreamStreamMultiCallable[Req, Resp]]",
        requests: AsyncIterator[Req],
    ) -> AsyncGenerator[Resp, None]:
        """Make a bidirectional streaming call."""
        ...

    def retire(self, closed: "Callable[[Channel], None]") -> None:
        """Close once the running calls have ended, or after 30 s, then call `closed`."""
        ...

    async def close(self) -> None:
        """End every call now."""
        ...


class GrpcChannel:
    """A `Channel` over a gRPC channel, which it owns."""

    def __init__(self, address: str, channel: grpc.aio.Channel) -> None:
        self.address = address
        self._channel = channel
        self._stubs = Stubs(
            tasks=pb_grpc.TaskServiceStub(channel),
            workers=pb_grpc.WorkerServiceStub(channel),
            admin=pb_grpc.AdminServiceStub(channel),
            revocations=pb_grpc.RevocationServiceStub(channel),
        )
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining: asyncio.Task[None] | None = None

    async def call(
        self, method: "Callable[[Stubs], UnaryUnaryMultiCallable[Req, Resp]]", request: Req, *, timeout: float
    ) -> Resp:
        """See `Channel.call`."""
        with self._in_use():
            return await method(self._stubs)(request, timeout=timeout)

    async def stream(
        self, method: "Callable[[Stubs], UnaryStreamMultiCallable[Req, Resp]]", request: Req
    ) -> AsyncGenerator[Resp, None]:
        """See `Channel.stream`."""
        with self._in_use():
            call = method(self._stubs)(request)
            try:
                async for answer in call:
                    yield answer
            finally:
                call.cancel()

    async def exchange(
        self,
        method: "Callable[[Stubs], StreamStreamMultiCallable[Req, Resp]]",
        requests: AsyncIterator[Req],
    ) -> AsyncGenerator[Resp, None]:
        """See `Channel.exchange`."""
        with self._in_use():
            call = method(self._stubs)(requests)
            try:
                async for answer in call:
                    yield answer
            finally:
                call.cancel()

    def retire(self, closed: "Callable[[Channel], None]") -> None:
        """See `Channel.retire`."""
        if self._draining is None:
            self._draining = asyncio.create_task(self._drain())
            self._draining.add_done_callback(lambda _: closed(self))

    async def close(self) -> None:
        """See `Channel.close`."""
        if self._draining is not None:
            self._draining.cancel()
        await self._channel.close()

    async def _drain(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_S):
                await self._idle.wait()
        await self._channel.close()

    @contextlib.contextmanager
    def _in_use(self) -> Iterator[None]:
        self._running += 1
        self._idle.clear()
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise _call_failed(error) from None
        except grpc.aio.UsageError:
            raise CallFailed(grpc.StatusCode.UNAVAILABLE, "connection closed") from None
        except asyncio.CancelledError:
            # Closing the channel cancels its calls, which cannot be told from a cancellation of the caller's task.
            if _caller_is_cancelled():
                raise
            raise CallFailed(grpc.StatusCode.UNAVAILABLE, "connection replaced") from None
        finally:
            self._running -= 1
            if self._running == 0:
                self._idle.set()


def _call_failed(error: grpc.aio.AioRpcError) -> CallFailed:
    """Translate gRPC's error, without its lines of debug text."""
    details = " ".join((error.details() or "").split())
    if error.code() is grpc.StatusCode.INTERNAL and details == _WRITE_FAILED:
        return CallFailed(
            grpc.StatusCode.UNAVAILABLE, "stream ended by the coordinator while a message was in flight"
        )
    metadata = {key: value for key, value in (error.trailing_metadata() or ()) if isinstance(value, str)}
    return CallFailed(error.code(), details, metadata)


def _caller_is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
