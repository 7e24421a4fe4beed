"""A flood of unauthenticated connections from a separate process; closed ones are opened again.

`python -m tests.integration.flood KIND PORT COUNT SOURCE...` prints a line once every connection has been tried, and
exits after two minutes. Loopback only: SOURCE is an address in 127.0.0.0/8.
"""

import asyncio
import os
import resource
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

KINDS = ("silent", "half-hello", "hello", "tls")
"""Send nothing; the start of a TLS record; a complete ClientHello only; complete TLS without a certificate."""

_HOST = "127.0.0.1"
_DURATION_S = 120.0
_RETRY_DELAY_S = 0.05  # after a failed connection
_TLS_RECONNECT_DELAY_S = 1.0  # limits CPU use: the test is about connection slots
_MAX_CONCURRENT = 200
_CONNECT_TIMEOUT_S = 1.0
_SPARE_DESCRIPTORS = 100


def allow_descriptors(count: int) -> None:
    """Raise this process's soft limit of descriptors; raises ValueError if the hard limit is lower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))


@asynccontextmanager
async def flood(kind: str, port: int, count: int, *sources: str) -> AsyncIterator[None]:
    """Run a flood of `count` connections; each has been tried once when the body starts."""
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
        await process.communicate()  # read to the end: an open pipe would be closed after its event loop


class _Flood:
    def __init__(self, kind: str, port: int, count: int, sources: list[str]) -> None:
        self._kind = kind
        self._port = port
        self._count = count
        self._sources = sources
        self._tried: set[int] = set()
        self._slots = asyncio.Semaphore(_MAX_CONCURRENT)
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._tls.check_hostname = False
        self._tls.verify_mode = ssl.CERT_NONE

    async def run(self) -> None:
        async with asyncio.timeout(_DURATION_S), asyncio.TaskGroup() as group:
            for number in range(self._count):
                group.create_task(self._maintain(number))

    async def _maintain(self, number: int) -> None:
        while True:
            try:
                async with self._slots, asyncio.timeout(_CONNECT_TIMEOUT_S):
                    reader, writer = await self._open(number)
            except OSError:  # TimeoutError is one
                await asyncio.sleep(_RETRY_DELAY_S)
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
                await asyncio.sleep(_TLS_RECONNECT_DELAY_S)

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
        raise AssertionError("the handshake did not wait for the server")

    def _count_tried(self, number: int) -> None:
        if len(self._tried) < self._count:
            self._tried.add(number)
            if len(self._tried) == self._count:
                print("all tried", flush=True)


if __name__ == "__main__":
    _, _kind, _port, _count, *_sources = sys.argv
    allow_descriptors(int(_count) + _SPARE_DESCRIPTORS)
    asyncio.run(_Flood(_kind, int(_port), int(_count), _sources).run())
