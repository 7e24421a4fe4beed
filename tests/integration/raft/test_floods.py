"""Strangers who fill the Raft port keep no peer out."""

from pathlib import Path

import pytest

from tests.integration.flood import allow_descriptors, flood
from tests.integration.raft.trio import Member, three_members, until

_CONNECTIONS = 1_000
_DESCRIPTORS = 4_096


def joined(member: Member) -> bool:
    """Whether it is connected with both others."""
    return member.runner is not None and all(peer.connected for peer in member.runner.status().peers.values())


@pytest.mark.parametrize(
    ("kind", "count", "sources"),
    [
        pytest.param("silent", _CONNECTIONS, ("127.0.0.1",), id="silent, from a peer's own address"),
        pytest.param("silent", _CONNECTIONS, tuple(f"127.0.1.{n}" for n in range(1, 201)), id="silent, 200 sources"),
        pytest.param("half-hello", _CONNECTIONS, ("127.0.0.1",), id="half a ClientHello"),
        pytest.param("hello", 100, ("127.0.0.1",), id="a whole ClientHello"),
    ],
)
async def test_a_restarted_coordinator_joins_under_a_flood(
    tmp_path: Path, kind: str, count: int, sources: tuple[str, ...]
) -> None:
    """It dials the flooded node and is taken in while the flood lasts; the cluster goes on agreeing."""
    allow_descriptors(_DESCRIPTORS)
    async with three_members(tmp_path) as trio:
        await trio.say("before")
        flooded, restarted = trio.members["coordinator-3"], trio.members["coordinator-1"]
        async with flood(kind, flooded.port, count, *sources):
            await restarted.stop()
            await restarted.start()
            await until(lambda: joined(restarted) and joined(flooded))
            await trio.say("under the flood")
            await trio.agreed("before", "under the flood")
