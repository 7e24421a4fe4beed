"""The Raft port stays open through whatever the operating system runs short of."""

import asyncio
import errno
import logging
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.integration.raft.trio import three_members


async def test_running_out_of_file_descriptors_is_waited_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Accepting fails for a while, and is tried again: nobody is locked out for ever."""
    loop = asyncio.get_running_loop()
    accept = loop.sock_accept
    failures = 5

    async def scarce(listener: socket.socket) -> tuple[socket.socket, Any]:
        nonlocal failures
        if failures:
            failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return await accept(listener)

    monkeypatch.setattr(loop, "sock_accept", scarce)
    with caplog.at_level(logging.ERROR, "zkp.daemon"):
        async with three_members(tmp_path) as trio:
            await trio.say("one")
            await trio.agreed("one")
    assert failures == 0
    assert "cannot accept connections: Too many open files; retrying" in caplog.text


async def test_a_port_that_is_taken_is_an_error_at_the_start(tmp_path: Path) -> None:
    """Not a node that says it is ready and hears nothing."""
    async with three_members(tmp_path, start=False) as trio:
        member = trio.members["coordinator-1"]
        taken = socket.create_server(("127.0.0.1", member.port))
        with taken, pytest.raises(OSError, match="Address already in use"):
            await member.start()
