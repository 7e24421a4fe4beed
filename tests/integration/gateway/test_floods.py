"""Unauthenticated peers that flood the port do not block callers, and use bounded memory."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from gateway import serve as serving
from gateway.callers import new_key
from pki.x509.identity import Role
from tests.integration.flood import allow_descriptors, flood
from tests.integration.gateway.caller import Caller
from tests.integration.gateway.conftest import PATIENCE_S, Identities, Serve, eventually
from tests.integration.gateway.test_process import Operated
from zkp.daemon import connections

_STRANGERS = 500
_PER_SOURCE = 256
_DESCRIPTORS = 4_096
_AT_A_TIME = 20
_PEAK_BYTES = 20 * 2**20
_KEPT_BYTES = 6 * 2**20


class Strangers:
    """Idle TLS connections without a certificate, which are not reopened."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self._port = port
        self._context = context
        self._opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def connect(self, count: int) -> None:
        one_of_several = asyncio.Semaphore(_AT_A_TIME)

        async def open_one() -> None:
            async with one_of_several:
                self._opened.append(await asyncio.open_connection("127.0.0.1", self._port, ssl=self._context))

        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(open_one())

    @property
    def open(self) -> int:
        """The number of connections that the gateway has not closed."""
        return sum(not reader.at_eof() and reader.exception() is None for reader, _ in self._opened)

    def hang_up(self) -> None:
        for _, writer in self._opened:
            writer.transport.abort()
        self._opened.clear()


@pytest.fixture
async def operated(tmp_path: Path, identities: Identities) -> AsyncIterator[Operated]:
    """A gateway process that serves; its log is read all the time."""
    made = Operated(tmp_path, identities)
    process = await made.start()
    assert process.stderr is not None
    reading = asyncio.create_task(process.stderr.read())
    yield made
    process.kill()
    await reading
    await process.communicate()  # to the end of its output, before the event loop closes


async def answered(operated: Operated, context: ssl.SSLContext, key: str | None = None) -> int:
    """The status that a caller gets on a new connection."""
    caller = Caller(operated.port, context, key)
    try:
        return (await caller.get("/openapi.json")).status
    finally:
        await caller.close()


async def test_idle_anonymous_connections_are_bounded_and_their_memory_is_freed(
    operated: Operated, identities: Identities
) -> None:
    """One address gets only its share; admins and holders of keys are served; afterwards memory is freed."""
    allow_descriptors(_DESCRIPTORS)
    assert operated.process is not None
    process = psutil.Process(operated.process.pid)
    admin, nobody = identities.context("ops", Role.ADMIN), identities.anonymous()
    for _ in range(10):
        assert await answered(operated, admin) == 200
    before = process.memory_info().rss
    strangers = Strangers(operated.port, nobody)
    await strangers.connect(_STRANGERS)
    assert await answered(operated, admin) == 200
    assert await answered(operated, nobody, operated.key.key) == 200
    await eventually(lambda: strangers.open <= _PER_SOURCE)
    peak = process.memory_info().rss
    strangers.hang_up()
    await eventually(lambda: process.memory_info().rss - before < _KEPT_BYTES)
    assert peak - before < _PEAK_BYTES


async def test_callers_are_served_during_a_flood_of_anonymous_connections(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections closed in favour of newer ones are reopened; an admin and a client are still served."""
    monkeypatch.setattr(serving, "_CONNECTION_BOUNDS", connections.Bounds(known=4, anonymous=16))
    running = await serve()
    async with flood("tls", running.port, 40):
        assert (await running.caller("ops", Role.ADMIN).get("/openapi.json")).status == 200
        assert (await running.caller().post("/api/v1/tasks/addition", {"a": 1, "b": 2})).status == 202


async def test_an_idle_anonymous_connection_is_closed(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its connection is closed; connections with a valid key or certificate stay open."""
    monkeypatch.setattr(connections, "ANONYMOUS_IDLE_S", 2.0)
    key, keys = new_key("billing"), tmp_path / "keys"
    keys.write_text(f"{key.line}\n")
    running = await serve(api_keys_file=keys)
    keyed = await asyncio.open_connection("127.0.0.1", running.port, ssl=running.identities.anonymous())
    assert b"200 OK" in await _ask(keyed, f"Authorization: Bearer {key.key}\r\n")
    certified = await asyncio.open_connection("127.0.0.1", running.port, ssl=running.caller().context)
    stranger = await asyncio.open_connection("127.0.0.1", running.port, ssl=running.identities.anonymous())
    async with asyncio.timeout(PATIENCE_S):
        assert b"401 Unauthorized" in await _ask(stranger, "")
        with contextlib.suppress(ConnectionError):
            assert await stranger[0].read() == b""
    assert b"200 OK" in await _ask(keyed, f"Authorization: Bearer {key.key}\r\n")
    assert b"200 OK" in await _ask(certified, "")
    for _, writer in (keyed, certified, stranger):
        writer.transport.abort()


async def _ask(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], header: str) -> bytes:
    """The head of the answer to a listing; its body is taken from the connection."""
    reader, writer = connection
    writer.write(f"GET /api/v1/tasks HTTP/1.1\r\nHost: gateway\r\n{header}\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    assert length is not None
    await reader.readexactly(int(length[1]))
    return head
