"""Our server and grpc.aio's answer the same calls in the same way: messages, statuses, details, metadata."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest

from pki.x509.identity import Role
from tests.integration.coordinator.front import Identities
from tests.integration.rpc.servers import SERVICE, Running, oracle, own

Case = Callable[[Running, grpc.aio.Channel], Awaitable[Any]]


async def outcome(call: Any) -> Any:
    """What a client sees of a call with one answer."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        answer = None
        return (error.code().name, error.details(), own_metadata(error.trailing_metadata()))
    return (
        answer, (await call.code()).name, await call.details() or "",
        own_metadata(await call.initial_metadata()), own_metadata(await call.trailing_metadata()),
    )  # fmt: skip


async def stream_outcome(call: Any) -> Any:
    """What a client sees of a call with many answers."""
    answers = []
    try:
        async for answer in call:
            answers.append(answer)  # noqa: PERF401 - those before an error are part of the outcome
    except grpc.aio.AioRpcError as error:
        return (answers, error.code().name, error.details(), own_metadata(error.trailing_metadata()))
    return (answers, (await call.code()).name)


def own_metadata(metadata: Any) -> list[tuple[str, str | bytes]]:
    return sorted((name, value) for name, value in metadata or () if name.startswith("x-"))


def unary(channel: grpc.aio.Channel, name: str, request: bytes, **options: Any) -> Any:
    call: Any = channel.unary_unary(SERVICE + "unary_" + name)
    return call(request, timeout=options.pop("timeout", 20), **options)


async def messages(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def echoes(running: Running, channel: grpc.aio.Channel) -> Any:
    return [await outcome(unary(channel, "echo", b"x" * size)) for size in (0, 1, 300, 16379, 65535, 3 << 20)]


async def at_once(running: Running, channel: grpc.aio.Channel) -> Any:
    return await asyncio.gather(*(outcome(unary(channel, "echo", str(number).encode())) for number in range(500)))


async def large_answers(running: Running, channel: grpc.aio.Channel) -> Any:
    return [await outcome(unary(channel, "large", str(size).encode())) for size in (100_000, 3 << 20)]


async def every_status(running: Running, channel: grpc.aio.Channel) -> Any:
    codes = [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
    return [await outcome(unary(channel, "abort", code.encode())) for code in codes]


async def set_code(running: Running, channel: grpc.aio.Channel) -> Any:
    return await outcome(unary(channel, "set_code", b""))


async def metadata(running: Running, channel: grpc.aio.Channel) -> Any:
    sent = (
        ("x-text", "a b"),
        ("x-many", "1"),
        ("x-many", "2"),
        ("x-data-bin", bytes(range(256))),
        ("x-none-bin", b""),
    )
    return await outcome(unary(channel, "metadata", b"", metadata=sent))


async def certificate(running: Running, channel: grpc.aio.Channel) -> Any:
    return await outcome(unary(channel, "tls", b""))


async def unknown_methods(running: Running, channel: grpc.aio.Channel) -> Any:
    other: Any = channel.unary_unary("/other.Service/Method")
    return [(await outcome(call))[0] for call in (unary(channel, "none", b""), other(b"", timeout=20))]


async def deadline(running: Running, channel: grpc.aio.Channel) -> Any:
    answer = await outcome(unary(channel, "hold", b"", timeout=0.3))
    async with asyncio.timeout(10):
        await running.probe.cancelled.wait()
    assert 0 < running.probe.seen[0] <= 0.3
    return answer


async def no_deadline(running: Running, channel: grpc.aio.Channel) -> Any:
    call = unary(channel, "hold", b"", timeout=None)
    await running.probe.started.wait()
    running.probe.release.set()
    return (await outcome(call), running.probe.seen)


async def cancel(running: Running, channel: grpc.aio.Channel) -> Any:
    call = unary(channel, "hold", b"")
    await running.probe.started.wait()
    call.cancel()
    async with asyncio.timeout(10):
        await running.probe.cancelled.wait()
    return (await call.code()).name


async def cancel_stream(running: Running, channel: grpc.aio.Channel) -> Any:
    method: Any = channel.unary_stream(SERVICE + "down_hold")
    call = method(b"", timeout=20)
    initial = own_metadata(await call.initial_metadata())
    call.cancel()
    async with asyncio.timeout(10):
        await running.probe.cancelled.wait()
    return (initial, (await call.code()).name)


async def down(running: Running, channel: grpc.aio.Channel) -> Any:
    method: Any = channel.unary_stream(SERVICE + "down_count")
    return [await stream_outcome(method(str(count).encode(), timeout=20)) for count in (0, 1, 1000)]


async def down_abort(running: Running, channel: grpc.aio.Channel) -> Any:
    method: Any = channel.unary_stream(SERVICE + "down_abort")
    return await stream_outcome(method(b"", timeout=20))


async def up(running: Running, channel: grpc.aio.Channel) -> Any:
    method: Any = channel.stream_unary(SERVICE + "up_sum")
    many = messages(*(str(number).encode() for number in range(1000)))
    return [await outcome(method(messages(), timeout=20)), await outcome(method(many, timeout=20))]


async def up_first(running: Running, channel: grpc.aio.Channel) -> Any:
    """The handler returns before the request ends."""
    method: Any = channel.stream_unary(SERVICE + "up_first")
    return await outcome(method(messages(*(b"x" * 1000 for _ in range(100))), timeout=20))


async def both(running: Running, channel: grpc.aio.Channel) -> Any:
    method: Any = channel.stream_stream(SERVICE + "both_echo")
    parts = [bytes((number % 256,)) * (number * 37 % 5000) for number in range(300)]
    return await stream_outcome(method(messages(*parts), timeout=20))


async def ping_pong(running: Running, channel: grpc.aio.Channel) -> Any:
    call: Any = channel.stream_stream(SERVICE + "both_echo")(timeout=20)
    answers = []
    for number in range(50):
        await call.write(str(number).encode())
        answers.append(await call.read())
    await call.done_writing()
    return (answers, await call.read() is grpc.aio.EOF, (await call.code()).name)


CASES: list[Case] = [
    echoes, at_once, large_answers, every_status, set_code, metadata, certificate, unknown_methods, deadline,
    no_deadline, cancel, cancel_stream, down, down_abort, up, up_first, both, ping_pong,
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_both_servers_agree(identities: Identities, case: Case) -> None:
    """The client cannot tell which one it has called."""
    async with own(identities) as running, running.channel() as channel:
        ours = await case(running, channel)
    async with oracle(identities) as running, running.channel() as channel:
        theirs = await case(running, channel)
    assert ours == theirs


def test_the_blocking_client(identities: Identities) -> None:
    """grpcio's client for threads, all four kinds of call."""

    def talk(running: Running) -> list[Any]:
        credentials = identities.material("alice", Role.CLIENT).grpc_channel_credentials()
        with grpc.secure_channel(f"127.0.0.1:{running.port}", credentials) as opened:
            channel: Any = opened
            return [
                channel.unary_unary(SERVICE + "unary_echo")(b"x", timeout=20),
                list(channel.unary_stream(SERVICE + "down_count")(b"3", timeout=20)),
                channel.stream_unary(SERVICE + "up_sum")(iter([b"1", b"2"]), timeout=20),
                list(channel.stream_stream(SERVICE + "both_echo")(iter([b"a", b"b"]), timeout=20)),
            ]

    async def run() -> list[Any]:
        async with own(identities) as running:
            return await asyncio.to_thread(talk, running)

    assert asyncio.run(run()) == [b"x", [b"0", b"1", b"2"], b"3", [b"a", b"b"]]
