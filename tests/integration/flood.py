"""Connections of strangers, many of them and re-made when they are closed, from a process of their own.

`python -m tests.integration.flood KIND PORT COUNT SOURCE...` prints a line once it has tried to make all of them, and
ends by itself after two minutes. Loopback only: SOURCE is an address in 127.0.0.0/8.
"""

import asyncio
import os
import resource
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

KINDS = ("silent", "half-hello", "hello", "tls")
"""Say nothing; begin a TLS record; send a whole ClientHello and nothing more; finish TLS without a certificate."""

_HOST = "127.0.0.1"
_LIFE_S = 120.0
_PAUSE_S = 0.05  # after a connection that could not be made
_TLS_PAUSE_S = 1.0  # handshakes are work: this is about places, and not about the processor
_AT_A_TIME = 200
_CONNECT_S = 1.0
_SPARE_DESCRIPTORS = 100


def allow_descriptors(count: int) -> None:
    """Raise this process's soft limit so far; raises ValueError when the hard limit is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


@asynccontextmanager
async def flood(kind: str, port: int, count: int, *sources: str) -> AsyncIterator[None]:
    """Run a flood of `count` connections, all of which have been tried once when the body begins."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.flood",
        kind,
        str(port),
        str(count),
        *(sources or (_HOST,)),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        assert line == b"all tried\n", f"the flood did not begin: {line!r}"
        yield
        assert process.returncode is None, "the flood ended before the test did"
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()  # to the end of its output: a pipe left open would be closed after its loop


class _Flood:
    def __init__(self, kind: str, port: int, count: int, sources: list[str]) -> None:
        self._kind = kind
        self._port = port
        self._count = count
        self._sources = sources
        self._tried: set[int] = set()
        self._making = asyncio.Semaphore(_AT_A_TIME)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    async def run(self) -> None:
        async with asyncio.timeout(_LIFE_S), asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._keep(number))

    async def _keep(self, number: int) -> None:
        while True:
            try:
                async with self._making, asyncio.timeout(_CONNECT_S):
                    reader, writer = await self._open(number)
            except OSError:  # TimeoutError is one
                await asyncio.sleep(_PAUSE_S)
                continue
            finally:
                self._count_tried(number)
            try:
                await reader.read()
            except OSError:
                pass
            finally:
                writer.transport.abort()
            if self._kind == "tls":
                await asyncio.sleep(_TLS_PAUSE_S)

    async def _open(self, number: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        source = self._sources[number % len(self._sources)]
        tls = self._tls if self._kind == "tls" else None
        reader, writer = await asyncio.open_connection(_HOST, self._port, ssl=tls, local_addr=(source, 0))
        if self._kind == "half-hello":
            writer.write(b"\x16\x03\x01\x02\x00\x01")
        elif self._kind == "hello":
            writer.write(self._hello())
        return reader, writer

    def _hello(self) -> bytes:
        outgoing = ssl.MemoryBIO()
        connection = self._tls.wrap_bio(ssl.MemoryBIO(), outgoing)
        try:
            connection.do_handshake()
        except ssl.SSLWantReadError:
            return outgoing.read()
        raise AssertionError("a handshake ended by itself")

    def _count_tried(self, number: int) -> None:
        if len(self._tried) < self._count:
            self._tried.add(number)
            if len(self._tried) == self._count:
                print("all tried", flush=True)


if __name__ == "__main__":
    _, _kind, _port, _count, *_sources = sys.argv
    allow_descriptors(int(_count) + _SPARE_DESCRIPTORS)
    asyncio.run(_Flood(_kind, int(_port), int(_count), _sources).run())
