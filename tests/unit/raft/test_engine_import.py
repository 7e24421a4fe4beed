"""What importing the engine does to the process."""

import socket

from coordinator.raft import engine


def test_addresses_still_become_text() -> None:
    """pysyncobj replaces `socket.inet_ntop` for the whole process by a function for Windows; that is undone."""
    assert engine.PINNED_VERSION
    packed = socket.inet_pton(socket.AF_INET6, "::1")
    assert socket.inet_ntop(socket.AF_INET6, packed) == "::1"
