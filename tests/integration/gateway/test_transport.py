"""Malformed HTTPS requests are rejected in bounded time and memory, and do not affect other callers."""

import asyncio
import json
import logging
import re
import ssl

import pytest

from gateway import serve as serving
from tests.integration.gateway.caller import DOCUMENT
from tests.integration.gateway.conftest import Running, Serve
from tests.unit.gateway.json_schema import complaint

_BAD_REQUEST = (b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")
_PROBLEM = b'"request_id": '
_ANSWER_S = 30  # far more than any answer takes, so that a test that hangs fails


async def exchange(running: Running, sent: bytes, context: ssl.SSLContext | None, *, last: bytes = b"\x00") -> bytes:
    """Send bytes as they are, over TLS or not; what comes back until the end, or until `last` is in it."""
    async with asyncio.timeout(_ANSWER_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=context)
        received = b""
        try:
            writer.write(sent)
            await writer.drain()
            while last not in received and (chunk := await reader.read(65536)):
                received += chunk
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()
    return received


def known(running: Running) -> ssl.SSLContext:
    """Return the TLS context of a client with a certificate."""
    return running.caller().context


def post(headers: str, body: bytes = b"") -> bytes:
    """A submission as it goes over the wire."""
    head = f"POST /api/v1/tasks/addition HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n{headers}\r\n"
    return head.encode() + body


async def still_serves(running: Running) -> bool:
    """Return whether a valid request is answered."""
    return (await running.caller().post("/api/v1/tasks/addition", {"a": 1, "b": 2})).status == 202


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /health HTTP/1.1\r\nHost: gateway\r\n\r\n",
        bytes(range(256)) * 64,
        b"\x16\x03\x01\xff\xff" + b"\x00" * 70_000,
        b"\x7f\xff\xff\xff",
    ],
)
async def test_non_tls_connections_are_closed(running: Running, sent: bytes) -> None:
    """Plain HTTP, random bytes, endless lengths: the response is at most one sentence."""
    received = await exchange(running, sent, None)
    assert b"HTTP/1.1 200" not in received
    assert len(received) < 300
    assert await still_serves(running)


async def test_idle_connections_do_not_block_others(running: Running) -> None:
    """Neither before their handshake nor after it."""
    context = known(running)
    opened = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(30)]
    opened += [await asyncio.open_connection("127.0.0.1", running.port, ssl=context) for _ in range(10)]
    assert await still_serves(running)
    for _, writer in opened:
        writer.transport.abort()


@pytest.mark.parametrize("length", [2**31, 2**63, 6_000_001])
async def test_an_announced_length_over_the_limit_is_refused_at_once(running: Running, length: int) -> None:
    """Before a byte of it is read."""
    received = await exchange(running, post(f"Content-Length: {length}\r\n"), known(running), last=_PROBLEM)
    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"body-too-large" in received
    assert running.network.submissions == []


async def test_endless_chunks_are_cut_off(running: Running) -> None:
    """At the limit, whatever was not announced."""
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    received = await exchange(
        running, post("Transfer-Encoding: chunked\r\n", chunk * 110), known(running), last=_PROBLEM
    )
    assert received.startswith(b"HTTP/1.1 413 ")


async def test_invalid_chunks_are_a_bad_request(running: Running) -> None:
    """Not a fault of the gateway."""
    received = await exchange(running, post("Transfer-Encoding: chunked\r\n", b"zz\r\nnonsense\r\n"), known(running))
    assert received.startswith(_BAD_REQUEST)
    assert await still_serves(running)


async def test_a_body_that_does_not_arrive_times_out(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """408, and the connection is closed."""
    monkeypatch.setattr(serving, "_BODY_TIMEOUT_S", 0.2)
    running = await serve()
    received = await exchange(running, post("Content-Length: 100\r\n", b'{"a": '), known(running), last=_PROBLEM)
    assert received.startswith(b"HTTP/1.1 408 ")
    assert running.network.submissions == []


async def test_a_disconnect_within_a_body_changes_nothing(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is submitted, the next caller is served, and no fault is logged."""
    _, writer = await asyncio.open_connection("127.0.0.1", running.port, ssl=known(running))
    writer.write(post("Content-Length: 100\r\n", b'{"a": 1, "b": 2}'))
    await writer.drain()
    writer.transport.abort()
    assert await still_serves(running)
    assert len(running.network.submissions) == 1
    await running.gateway.stop()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\x03\r\n\r\n",
        b"GET /health HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: gateway\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        post("Content-Length: 5\r\nContent-Length: 6\r\n", b"{}"),
        post("Content-Length: -1\r\n", b"{}"),
        post("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", b"{}"),
    ],
)
async def test_malformed_http_is_a_bad_request(running: Running, sent: bytes) -> None:
    """Also where two readers could see two different requests."""
    received = await exchange(running, sent, known(running))
    assert received.startswith(_BAD_REQUEST)
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head.lower()
    assert b"x-request-id: " in head.lower()
    problem = json.loads(body)
    assert problem["type"] == "urn:zkp:problem:malformed-request"
    assert complaint(problem, DOCUMENT["components"]["schemas"]["Problem"], DOCUMENT) is None
    assert running.network.submissions == []


async def test_malformed_requests_are_bounded_warnings_with_the_peer(
    running: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unauthenticated peers cannot flood the log: at most 20 lines per window, each with the peer, none an error."""
    monkeypatch.setattr("zkp.daemon.bounded_log._WINDOW_S", 3600.0)
    for _ in range(40):
        await exchange(running, b"\x00\r\n\r\n", known(running))
    lines = [record for record in caplog.records if record.levelno >= logging.WARNING]
    malformed = [record for record in lines if "malformed HTTP request" in record.getMessage()]
    assert len(malformed) == 20
    assert all(re.fullmatch(r"127\.0\.0\.1:[0-9]+", record.__dict__["peer"]) for record in malformed)
    assert all(record.levelno == logging.WARNING for record in lines)


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /nothing HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"POST /health HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab\r\nzz\r\n",
        b"POST /health HTTP/1.1\r\nHost: gateway\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nab",
        b"GET /health HTTP/1.1\r\nHost: gateway\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n\x00\x00\r\n\r\n",
        b"GET http://[/health HTTP/1.1\r\nHost: [\r\n\r\n",
        b"CONNECT gateway:443 HTTP/1.1\r\nHost: gateway\r\n\r\n",
        b"BREW /health HTTP/1.1\r\nHost: gateway\r\nExpect: tea\r\n\r\n",
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: gateway\r\n\r\n",
    ],
)
async def test_every_error_is_a_problem_and_no_error_in_the_log(
    running: Running, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    """Every malformed request gets a JSON response and at most a warning in the log."""
    received = await exchange(running, sent, known(running), last=b"\r\n\r\n")
    assert b"text/plain" not in received
    assert b"text/html" not in received
    if received:
        assert b"content-type: application/problem+json" in received.lower() or b" 200 OK" in received
    assert await still_serves(running)
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.WARNING] == []


async def test_bytes_after_a_body_are_not_logged(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong length turns the rest of a body, possibly a secret, into a malformed request."""
    body = json.dumps({"a": 1, "b": 2}).encode()
    secret = b'{"leaves": [31337313373133731337]}\r\n\r\n'
    with caplog.at_level(logging.DEBUG):
        received = await exchange(running, post(f"Content-Length: {len(body)}\r\n", body + secret), known(running))
    assert received.startswith(_BAD_REQUEST)
    assert "malformed HTTP request" in caplog.text
    assert "31337" not in caplog.text


async def test_many_requests_on_one_connection_are_answered_in_order(running: Running) -> None:
    """Pipelined, as HTTP allows."""
    one = post("Content-Length: 16\r\n", b'{"a": 1, "b": 2}')
    last = post("Content-Length: 16\r\nConnection: close\r\n", b'{"a": 1, "b": 3}')
    received = await exchange(running, one * 5 + last, known(running))
    assert received.count(b"HTTP/1.1 202 ") == 6
    assert received.rindex(b'"4"') > received.rindex(b'"3"')
