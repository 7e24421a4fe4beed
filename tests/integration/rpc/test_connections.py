"""The life of connections: keepalive, age, drain, stop, bounds, floods; other callers are served meanwhile."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import hpack
import psutil
import pytest
from hyperframe.frame import DataFrame, HeadersFrame, RstStreamFrame, WindowUpdateFrame

from coordinator.rpc.serving import connection as connection_module
from coordinator.rpc.serving import server as server_module
from coordinator.rpc.serving.connection import ConnectionTiming
from pki.x509.identity import Role
from tests.integration.coordinator.front import Identities
from tests.integration.flood import flood
from tests.integration.rpc.raw_client import raw
from tests.integration.rpc.servers import SERVICE, Running, own
from tests.unit.rpc.http2.peer import (
    CONTINUATION,
    DATA,
    HEADERS,
    PING,
    PREFACE,
    REQUEST,
    RST_STREAM,
    SETTINGS,
    block,
    frame,
    request,
)

MIB = 1 << 20


def path(name: str) -> list[tuple[str, str]]:
    """Return the headers of a request to this method."""
    return [(key, SERVICE + name if key == ":path" else value) for key, value in REQUEST]


def message(data: bytes) -> bytes:
    return b"\0" + len(data).to_bytes(4, "big") + data


async def echo(channel: grpc.aio.Channel, data: bytes = b"x") -> bytes:
    method: Any = channel.unary_unary(SERVICE + "unary_echo")
    answer: bytes = await method(data, timeout=20)
    return answer


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - nothing in the product signals it
            await asyncio.sleep(0.01)


@pytest.fixture
async def running(identities: Identities) -> AsyncIterator[Running]:
    """Our server with its usual times."""
    async with own(identities) as server:
        yield server


async def test_a_dead_peer_is_found(identities: Identities) -> None:
    """It does not answer a PING; its call is cancelled."""
    timing = ConnectionTiming(keepalive_s=0.2, keepalive_timeout_s=0.2)
    async with own(identities, timing=timing) as running, raw(running.port, running.client_context()) as client:
        client.answers = False
        await client.send(request(1, path("unary_hold"), end=False) + frame(DATA, 1, 1, message(b"")))
        async with asyncio.timeout(20):
            await running.probe.cancelled.wait()
            await client.closed.wait()


async def test_a_quiet_peer_that_answers_pings_stays(identities: Identities) -> None:
    """Without a call, for several keepalive intervals."""
    timing = ConnectionTiming(keepalive_s=0.1, keepalive_timeout_s=0.5)
    async with own(identities, timing=timing) as running, raw(running.port, running.client_context()) as client:
        await until(lambda: len([one for one in client.frames if one.type == PING]) >= 3)
        assert not client.closed.is_set()


async def test_too_many_pings(running: Running) -> None:
    """gRPC's word for them is in the GOAWAY, so that its clients ping less often."""
    async with raw(running.port, running.client_context()) as client:
        for _ in range(10):
            await client.send(frame(PING, 0, 0, bytes(8)))
        goodbye = await client.goodbye()
    assert (goodbye.error_code, goodbye.additional_data) == (11, b"too_many_pings")


async def test_pings_beside_answers_are_welcome(running: Running) -> None:
    """Clients measure the bandwidth by them while data flow."""
    async with raw(running.port, running.client_context()) as client:
        for number in range(20):
            await client.send(request(2 * number + 1, path("unary_echo"), end=False))
            await client.send(frame(DATA, 1, 2 * number + 1, message(b"x")))
            await until(lambda: len(client.of(DataFrame)) == number + 1)  # noqa: B023
            await client.send(frame(PING, 0, 0, bytes(8)))
        assert not client.closed.is_set()


async def test_connections_are_renewed_at_their_age(identities: Identities) -> None:
    """A client that calls all the time does not notice; each call is answered."""
    timing = ConnectionTiming(max_age_s=0.15, age_grace_s=5.0)
    async with own(identities, timing=timing) as running, running.channel() as channel:
        for number in range(600):
            assert await echo(channel, str(number).encode()) == str(number).encode()
            await asyncio.sleep(0.001)


async def test_calls_beyond_the_grace_are_ended(identities: Identities) -> None:
    """An aged connection is closed in the end."""
    timing = ConnectionTiming(max_age_s=0.1, age_grace_s=0.2)
    async with own(identities, timing=timing) as running, running.channel() as channel:
        method: Any = channel.unary_unary(SERVICE + "unary_hold")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert running.probe.cancelled.is_set()


async def test_stop_waits_for_open_calls(identities: Identities) -> None:
    """What was accepted is answered; a new call finds another server."""
    async with own(identities) as running, running.channel() as channel:
        method: Any = channel.unary_unary(SERVICE + "unary_hold")
        call = method(b"", timeout=20)
        await running.probe.started.wait()
        stopping = asyncio.create_task(running.server.stop(10.0))
        await asyncio.sleep(0.1)
        assert not stopping.done()
        running.probe.release.set()
        assert await call == b"released"
        async with asyncio.timeout(5):
            await stopping


async def test_stop_ends_calls_after_its_grace(identities: Identities) -> None:
    """With a status that clients retry."""
    async with own(identities) as running, running.channel() as channel:
        method: Any = channel.unary_unary(SERVICE + "unary_hold")
        call = method(b"", timeout=20)
        await running.probe.started.wait()
        await running.server.stop(0.1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(running.probe.cancelled.wait(), 5)


async def test_a_connection_without_http2_is_closed(
    identities: Identities, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """TLS alone keeps no connection, and half a preface does not either."""
    monkeypatch.setattr(connection_module, "_PREFACE_TIMEOUT_S", 0.2)
    async with own(identities) as running:
        for preface in (b"", PREFACE[:10], PREFACE):
            async with raw(running.port, running.client_context(), preface=preface, answers=False) as client:
                await asyncio.wait_for(client.closed.wait(), 5)
    assert len([one for one in caplog.records if "no HTTP/2 within" in one.getMessage()]) == 3


async def test_a_request_without_its_message_ends(identities: Identities, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that opens calls and sends nothing more holds them for a while only."""
    monkeypatch.setattr(connection_module, "_REQUEST_TIMEOUT_S", 0.2)
    async with own(identities) as running, raw(running.port, running.client_context()) as client:
        await client.send(b"".join(request(2 * n + 1, path("unary_echo"), end=False) for n in range(50)))
        await until(lambda: len(client.of(HeadersFrame)) == 50)


async def test_calls_in_progress_are_bounded(identities: Identities) -> None:
    """Beyond the limit a call is refused at once, and the others go on."""
    async with own(identities, max_calls=10) as running, running.channel() as channel:
        method: Any = channel.unary_unary(SERVICE + "unary_hold")
        calls = [method(b"", timeout=20) for _ in range(10)]
        await until(lambda: len(running.probe.seen) == 10)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo(channel)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        running.probe.release.set()
        assert set(await asyncio.gather(*calls)) == {b"released"}
        assert await echo(channel) == b"x"


async def test_compressed_requests_are_refused(running: Running) -> None:
    """With the encodings that the server accepts."""
    credentials = running.identities.material("alice", Role.CLIENT).grpc_channel_credentials()
    target = f"127.0.0.1:{running.port}"
    async with grpc.aio.secure_channel(target, credentials, compression=grpc.Compression.Gzip) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo(channel, bytes(1000))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_metadata_is_bounded(running: Running) -> None:
    """32 KiB are refused, and the connection serves the next call."""
    async with running.channel(max_metadata_size=MIB, absolute_max_metadata_size=MIB) as channel:
        method: Any = channel.unary_unary(SERVICE + "unary_echo")
        many = [(f"x-{number}", "v" * 1000) for number in range(32)]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(b"x", timeout=20, metadata=many)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await echo(channel) == b"x"


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [(":method", "GET", "405"), ("content-type", "text/plain", "415"), ("te", None, "400")],
)
async def test_requests_that_are_not_grpc(running: Running, name: str, value: str | None, status: str) -> None:
    """Get an HTTP status, and the connection stays."""
    fields = [(key, value if key == name else kept) for key, kept in REQUEST]
    sent = [(key, text) for key, text in fields if text is not None]
    async with raw(running.port, running.client_context()) as client:
        await client.send(request(1, sent))
        await until(lambda: bool(client.of(HeadersFrame)))
        answer = hpack.Decoder().decode(client.of(HeadersFrame)[0].data)
        assert (":status", status) in [(str(key), str(text)) for key, text in answer]
        assert not client.closed.is_set()


async def test_a_handler_waits_for_a_slow_reader(running: Running) -> None:
    """Flow control reaches the handler: it does not write 64 MiB to memory."""
    async with raw(running.port, running.client_context(), reads=False) as client:
        await client.send(request(1, path("down_blocks"), end=False) + frame(DATA, 1, 1, message(b"1000")))
        await until(lambda: len(running.probe.seen) >= 1)
        await asyncio.sleep(0.3)
        assert len(running.probe.seen) < 10
        async with running.channel() as channel:
            assert await echo(channel) == b"x"


async def test_a_client_waits_for_a_slow_handler(running: Running) -> None:
    """Without flow-control credit, no more than the stream's window is taken from a client."""
    async with running.channel() as channel:
        call: Any = channel.stream_stream(SERVICE + "both_slow")(timeout=30)
        await running.probe.started.wait()
        sent = 0

        async def write() -> None:
            nonlocal sent
            for _ in range(200):
                await call.write(bytes(30_000))
                sent += 1
            await call.done_writing()

        writing = asyncio.create_task(write())
        await asyncio.sleep(0.3)
        assert sent < 60
        (connection,) = running.server._connections
        assert connection.held < MIB
        running.probe.release.set()
        await writing
        assert await call.read() == b"200"


async def test_empty_messages_wait_for_a_slow_handler(running: Running) -> None:
    """They have no content, and are bounded all the same."""
    async with raw(running.port, running.client_context()) as client:
        await client.send(request(1, path("both_slow"), end=False))
        await running.probe.started.wait()
        sending = asyncio.create_task(client.send(200 * frame(DATA, 0, 1, 3000 * message(b""))))
        await asyncio.sleep(0.3)
        (connection,) = running.server._connections
        assert connection.held < 8 * MIB
        taken = sum(one.window_increment for one in client.of(WindowUpdateFrame) if one.stream_id == 1)
        assert taken < MIB
        running.probe.release.set()
        sending.cancel()


async def test_unread_answers_are_bounded(
    identities: Identities, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Unary answers do not wait for their reader: who lets them pile up is cut off."""
    monkeypatch.setattr(connection_module, "_MAX_CONNECTION_BYTES", 16 * MIB)
    async with own(identities) as running, raw(running.port, running.client_context(), reads=False) as client:
        calls = b"".join(
            request(2 * n + 1, path("unary_large"), end=False) + frame(DATA, 1, 2 * n + 1, message(b"1000000"))
            for n in range(100)
        )
        await client.send(calls)
        await until(lambda: not running.server._connections)
    assert any("its requests and unread answers take" in one.getMessage() for one in caplog.records)


async def test_incomplete_requests_are_bounded(
    identities: Identities, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of all connections together; the one that holds most is closed, and others are served."""
    monkeypatch.setattr(server_module, "_MAX_HELD_BYTES", 8 * MIB)
    async with own(identities) as running, running.channel("bob") as channel:
        assert await echo(channel) == b"x"
        async with raw(running.port, running.client_context()) as client:
            for n in range(100):
                await client.send(request(2 * n + 1, path("unary_echo"), end=False))
                start = b"\0" + (MIB).to_bytes(4, "big")
                await client.send(frame(DATA, 0, 2 * n + 1, start) + 15 * frame(DATA, 0, 2 * n + 1, bytes(16384)))
                if client.closed.is_set():
                    break
            await asyncio.wait_for(client.closed.wait(), 10)
        assert await echo(channel) == b"x"
    assert any("all connections together hold" in one.getMessage() for one in caplog.records)


FLOODS: dict[str, Callable[[int], bytes]] = {
    "RST_STREAM": lambda n: request(2 * n + 1, path("unary_hold")) + frame(RST_STREAM, 0, 2 * n + 1, bytes(4)),
    "PING": lambda n: frame(PING, 0, 0, bytes(8)),
    "SETTINGS": lambda n: frame(SETTINGS),
    "empty DATA": lambda n: (request(1, path("unary_echo"), end=False) if n == 0 else b"") + frame(DATA, 0, 1),
    "CONTINUATION": lambda n: frame(HEADERS, 0, 1, block()) if n == 0 else frame(CONTINUATION, 0, 1, bytes(1000)),
    "unknown streams": lambda n: frame(RST_STREAM, 0, 2 * n + 1, bytes(4)),
}  # fmt: skip


@pytest.mark.parametrize("kind", FLOODS)
@pytest.mark.parametrize("reads", [True, False])
async def test_floods(running: Running, kind: str, reads: bool) -> None:
    """The connection is closed; memory stays bounded; another caller gets its answers meanwhile."""
    before = psutil.Process(os.getpid()).memory_info().rss
    make = FLOODS[kind]
    async with running.channel("bob") as channel, raw(running.port, running.client_context(), reads=reads) as client:
        first = 0
        while running.server._connections and first < 200_000:
            await client.send(b"".join(make(n) for n in range(first, first + 1000)))
            first += 1000
            assert await echo(channel) == b"x"
            if client.writer.is_closing() or client.closed.is_set() or len(running.server._connections) == 1:
                break
        assert first < 200_000
    assert psutil.Process(os.getpid()).memory_info().rss - before < 64 * MIB


async def test_half_open_connections(running: Running) -> None:
    """2,000 connections that begin a handshake and stop there; from a known source, callers still get in."""
    async with running.channel() as channel:
        assert await echo(channel) == b"x"
    async with flood("hello", running.port, 2000, "127.0.0.2", "127.0.0.3"):
        for _ in range(5):
            async with running.channel(use_local_subchannel_pool=1) as channel:
                method: Any = channel.unary_unary(SERVICE + "unary_echo")
                assert await method(b"x", timeout=20, wait_for_ready=True) == b"x"


async def test_an_error_of_a_handler_is_not_shown(
    running: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged here; the caller gets INTERNAL."""

    async def fails(request: bytes, context: Any) -> bytes:
        raise RuntimeError("the secret")

    monkeypatch.setattr(running.probe, "unary_echo", fails)
    async with running.channel() as channel:
        with caplog.at_level(logging.ERROR), pytest.raises(grpc.aio.AioRpcError) as caught:
            await echo(channel)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (caught.value.details() or "")
    assert any(one.exc_info for one in caplog.records)


@pytest.mark.parametrize("count", [0, 2])
async def test_a_unary_request_is_one_message(running: Running, count: int) -> None:
    """Neither none nor two."""
    async with raw(running.port, running.client_context()) as client:
        await client.send(request(1, path("unary_echo"), end=False) + frame(DATA, 1, 1, count * message(b"x")))
        await until(lambda: bool(client.of(HeadersFrame)))
        assert not client.of(DataFrame)
        assert not client.of(RstStreamFrame)
