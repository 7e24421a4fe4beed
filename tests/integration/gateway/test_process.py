"""The `gateway` command as an operator runs it: start, reload, stop, cleanup."""

import asyncio
import json
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import closing
from pathlib import Path

import aiohttp
import psutil
import pytest

from gateway.callers import new_key
from pki.x509.identity import Role
from tests.integration.gateway.caller import Caller
from tests.integration.gateway.conftest import Identities, eventually
from tests.integration.read_only_shm import with_read_only_shm

_PATIENCE_S = 60  # a loaded machine starts processes slowly


def free_ports(count: int) -> list[int]:
    """Return unused ports."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


class Operated:
    """A gateway process with its files. No coordinator answers it."""

    def __init__(self, directory: Path, identities: Identities) -> None:
        self.identities = identities
        self.port, self.watch_port, coordinator = free_ports(3)
        self.keys = directory / "keys"
        self.key = new_key("billing")
        self.keys.write_text(f"{self.key.line}\n")
        self.keys.chmod(0o600)
        files = identities.files("gateway-1", Role.GATEWAY)
        self.config = directory / "gateway.yaml"
        self.config.write_text(
            json.dumps(
                {
                    "id": "gateway-1",
                    "bind": f"127.0.0.1:{self.port}",
                    "metrics": {"bind": f"127.0.0.1:{self.watch_port}"},
                    "coordinators": [f"127.0.0.1:{coordinator}"],
                    "api_keys_file": str(self.keys),
                    "tls": {"certificate": str(files.certificate), "key": str(files.key), "ca": str(files.ca)},
                }
            )
        )
        self.process: Process | None = None

    async def run(self, *arguments: str, prefix: Sequence[str] = ()) -> tuple[int, str, str]:
        """Run the command behind `prefix`; return status, output and errors."""
        process = await self._spawn(*arguments, prefix=prefix)
        async with asyncio.timeout(_PATIENCE_S):
            out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def start(self) -> Process:
        """Start the gateway; return once it serves."""
        self.process = await self._spawn("--config", str(self.config))
        await self.logged("serving on")
        return self.process

    async def logged(self, words: str) -> str:
        """Return the next log line that contains `words`; fail if the log ends before."""
        assert self.process is not None
        assert self.process.stderr is not None
        async with asyncio.timeout(_PATIENCE_S):
            while line := await self.process.stderr.readline():
                if words in line.decode():
                    return line.decode()
        raise AssertionError(f"the process ended without {words!r}")

    async def stop(self) -> int:
        """Send SIGTERM; return the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_PATIENCE_S):
            _, _ = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode

    async def _spawn(self, *arguments: str, prefix: Sequence[str] = ()) -> Process:
        return await asyncio.create_subprocess_exec(
            *prefix, sys.executable, "-m", "gateway", *arguments, stdout=PIPE, stderr=PIPE
        )


@pytest.fixture
async def operated(tmp_path: Path, identities: Identities) -> AsyncIterator[Operated]:
    """A gateway to start; all its processes are gone at the end."""
    made = Operated(tmp_path, identities)
    yield made
    if made.process is not None and made.process.returncode is None:
        made.process.kill()
        await made.process.communicate()


async def with_caller(operated: Operated, key: str, path: str) -> int:
    """Return the status for a holder of the key."""
    caller = Caller(operated.port, operated.identities.anonymous(), key)
    try:
        return (await caller.get(path)).status
    finally:
        await caller.close()


async def test_a_valid_configuration_is_confirmed(operated: Operated) -> None:
    """Without listening anywhere."""
    status, out, err = await operated.run("check", "--config", str(operated.config))
    assert (status, err) == (0, "")
    assert out == f"{operated.config}: valid; gateway-1 would serve on 127.0.0.1:{operated.port}\n"


async def test_it_serves_reloads_and_stops(operated: Operated) -> None:
    """Without coordinators it reports 503, but rejects bad requests; SIGHUP reloads keys; SIGTERM stops it."""
    process = await operated.start()
    assert await with_caller(operated, operated.key.key, "/health") == 503
    assert await with_caller(operated, operated.key.key, "/api/v1/tasks?state=done") == 400

    changed = new_key("billing")
    operated.keys.write_text(f"{changed.line}\n")
    process.send_signal(signal.SIGHUP)
    await operated.logged("reloaded")
    assert await with_caller(operated, changed.key, "/api/v1/tasks?state=done") == 400
    assert await with_caller(operated, operated.key.key, "/api/v1/tasks?state=done") == 401

    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) >= 2
    assert await operated.stop() == 0
    await eventually(lambda: not any(child.is_running() for child in children))


async def test_bodies_are_read_by_its_processes(operated: Operated) -> None:
    """In the command as installed, where the main module is another than in tests."""
    await operated.start()
    caller = Caller(operated.port, operated.identities.context("alice", Role.CLIENT))
    try:
        answer = await caller.post("/api/v1/tasks/merkle", {"leaves": [1, 2, 3], "leaf_index": 3})
        assert (answer.status, answer.body["field"]) == (400, "leaf_index")
    finally:
        await caller.close()


async def test_no_process_outlives_a_killed_gateway(operated: Operated) -> None:
    """Its processes exit without a signal."""
    process = await operated.start()
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    await process.communicate()
    await eventually(lambda: not any(child.is_running() for child in children))


async def test_a_port_in_use_is_a_one_line_error(operated: Operated) -> None:
    """It names the address and the remedy, and leaves no process."""
    with closing(socket.create_server(("127.0.0.1", operated.port))):
        status, _, err = await operated.run("--config", str(operated.config))
    assert status == 1
    (line,) = [line for line in err.splitlines() if "critical" in line]
    assert f"cannot listen on 127.0.0.1:{operated.port}" in line
    assert "Traceback" not in err


async def test_metrics_are_for_prometheus(operated: Operated) -> None:
    """By route, never by path: callers cannot fill the memory with names of their own."""
    await operated.start()
    for task in range(3):
        await with_caller(operated, operated.key.key, f"/api/v1/tasks/{task}?wait=99")
    url = f"https://127.0.0.1:{operated.watch_port}/metrics"
    texts = {}
    async with aiohttp.ClientSession() as session:
        for name, role in (("prometheus", Role.PROMETHEUS), ("alice", Role.CLIENT)):
            async with session.get(url, ssl=operated.identities.context(name, role)) as response:
                texts[name] = (response.status, await response.text())
    assert texts["alice"][0] == 403
    status, text = texts["prometheus"]
    assert status == 200
    assert 'zkp_gateway_requests_total{code="400",method="GET",route="/api/v1/tasks/{id}"} 3.0' in text
    assert "zkp_gateway_request_seconds_bucket" in text
    assert "zkp_gateway_network_reachable 0.0" in text
    assert "zkp_gateway_bodies 0.0" in text


async def test_a_read_only_shm_is_named_in_one_line(operated: Operated) -> None:
    """Without a writable /dev/shm the gateway ends with one line that names it and what to do, and no traceback."""
    status, _, errors = await operated.run("--config", str(operated.config), prefix=with_read_only_shm())

    assert status == 1
    (line,) = errors.splitlines()
    assert "(Read-only file system); make /dev/shm writable" in line
