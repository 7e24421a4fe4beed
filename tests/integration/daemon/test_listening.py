"""Listening on IPv4 and IPv6: what a bind address means, and how peers are shown."""

import asyncio
import errno
import socket

import pytest

from zkp.daemon.listening import listen, peer_text


async def _caller_of(listening: socket.socket, host: str) -> str:
    """How the listener sees somebody who connects by this address; OSError when it takes no connection there."""
    loop = asyncio.get_running_loop()
    port = listening.getsockname()[1]
    _, writer = await asyncio.open_connection(host, port)
    own = writer.get_extra_info("sockname")
    connection, address = await loop.sock_accept(listening)
    writer.close()
    connection.close()
    assert address[1] == own[1]
    return peer_text(address).rpartition(":")[0]


async def test_the_ipv6_wildcard_takes_both_versions() -> None:
    """`::` means every address of the machine, and an IPv4 peer is shown by its IPv4 address."""
    with await listen("::", 0, backlog=8) as listening:
        assert await _caller_of(listening, "::1") == "[::1]"
        assert await _caller_of(listening, "127.0.0.1") == "127.0.0.1"


async def test_an_ipv6_address_is_itself_alone() -> None:
    """Whoever binds to ::1 is not reached by IPv4."""
    with await listen("::1", 0, backlog=8) as listening:
        assert await _caller_of(listening, "::1") == "[::1]"
        with pytest.raises(ConnectionRefusedError):
            await _caller_of(listening, "127.0.0.1")


async def test_the_ipv4_wildcard_is_ipv4_alone() -> None:
    """As before: an IPv4 network is not opened to IPv6 by an upgrade."""
    with await listen("0.0.0.0", 0, backlog=8) as listening:  # noqa: S104
        assert await _caller_of(listening, "127.0.0.1") == "127.0.0.1"
        with pytest.raises(ConnectionRefusedError):
            await _caller_of(listening, "::1")


async def test_without_ipv6_the_wildcard_means_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    """One configuration serves hosts whose kernel was started with ipv6.disable=1, too."""
    monkeypatch.setattr(socket, "socket", _WithoutIpv6)
    with await listen("::", 0, backlog=8) as listening:
        assert listening.family == socket.AF_INET
    with pytest.raises(OSError, match="not supported"):
        await listen("::1", 0, backlog=8)


class _WithoutIpv6(socket.socket):
    """A kernel without IPv6."""

    def __init__(self, family: int = -1, *rest: int) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, *rest)


async def test_a_taken_port_is_an_error() -> None:
    """Nothing is left open."""
    with await listen("::", 0, backlog=8) as listening, pytest.raises(OSError, match="in use"):
        await listen("::", listening.getsockname()[1], backlog=8)
