"""Fake coordinators: a double of everything below `LeaderConnection`, without sockets."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import grpc

from zkp.client.failures import CallFailed, DialFailed
from zkp.client.leader import LeaderConnection

A, B, C = "10.0.0.1:9090", "10.0.0.2:9090", "10.0.0.3:9090"


class _Names:
    def __getattr__(self, name: str) -> str:
        return name


_STUBS: Any = SimpleNamespace(tasks=_Names(), workers=_Names(), admin=_Names(), revocations=_Names())


class Node:
    """A fake coordinator; `handlers` by method are coroutine functions, or generator functions for streams."""

    def __init__(self, **handlers: Callable[..., Any]) -> None:
        self.handlers = handlers
        self.requests: list[tuple[str, Any]] = []

    def handler(self, method: Any, request: Any) -> Any:
        self.requests.append((method, request))
        if "every" in self.handlers:
            return self.handlers["every"](request)
        return self.handlers[method](request)


class FakeChannel:
    """A `zkp.client.channel.Channel` to a node."""

    def __init__(self, network: "Network", address: str) -> None:
        self.network = network
        self.address = address
        self.retired = False
        self.closed = False

    @property
    def node(self) -> Node:
        node = self.network.nodes.get(self.address)
        if node is None:
            raise CallFailed(grpc.StatusCode.UNAVAILABLE, "connection lost")
        return node

    async def call(self, method: Any, request: Any, *, timeout: float) -> Any:
        answer: Awaitable[Any] = self.node.handler(method(_STUBS), request)
        try:
            async with asyncio.timeout(timeout):
                return await answer
        except TimeoutError:
            raise CallFailed(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None

    async def stream(self, method: Any, request: Any) -> AsyncGenerator[Any, None]:
        async for message in self.node.handler(method(_STUBS), request):
            yield message

    async def exchange(self, method: Any, requests: AsyncIterator[Any]) -> AsyncGenerator[Any, None]:
        async for message in self.node.handler(method(_STUBS), requests):
            yield message

    def retire(self, closed: Callable[[Any], None]) -> None:
        self.retired = True
        closed(self)

    async def close(self) -> None:
        self.closed = True


class Network:
    """Nodes by address; others refuse connections, with the error in `refusals` if any."""

    def __init__(self, nodes: dict[str, Node]) -> None:
        self.nodes: dict[str, Node] = nodes
        self.refusals: dict[str, DialFailed] = {}
        self.generation: object = 1
        self.dialled: list[str] = []
        self.channels: list[FakeChannel] = []

    async def dial(self, address: str, timeout: float) -> FakeChannel:
        self.dialled.append(address)
        await asyncio.sleep(0)
        if address in self.refusals:
            raise self.refusals[address]
        if address not in self.nodes:
            raise DialFailed("connection refused")
        channel = FakeChannel(self, address)
        self.channels.append(channel)
        return channel

    def connect(self, *addresses: str) -> LeaderConnection:
        """Return a connection that tries addresses in the given order, with a backoff without jitter."""
        rng: Any = SimpleNamespace(randrange=lambda _: 0, random=lambda: 0.0)
        material: Any = None
        return LeaderConnection(addresses or (A, B, C), material, dialer=lambda _: self, rng=rng)


def follower(leader: str | None) -> Node:
    """Return a node that redirects every call to `leader`."""
    return Node(every=_refusing(leader))


def _refusing(leader: str | None) -> Callable[[Any], Any]:
    failure = not_leader(leader)

    class Refusal:
        """Raises the failure when it is awaited or iterated."""

        def __await__(self) -> Any:
            raise failure
            yield

        def __aiter__(self) -> "Refusal":
            return self

        async def __anext__(self) -> Any:
            raise failure

    return lambda _: Refusal()


def not_leader(leader: str | None) -> CallFailed:
    """Return the failure of a node that is not the leader."""
    if leader is None:
        return CallFailed(grpc.StatusCode.FAILED_PRECONDITION, "Not leader, and no leader is known at the moment")
    text = f"Not leader, connect to: {leader}"
    return CallFailed(grpc.StatusCode.FAILED_PRECONDITION, text, {"zkp-leader": leader})
