"""Following revocations across leaders, in virtual time."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.unit.client.network import A, B, Network, Node, follower, not_leader
from tests.unit.client.virtual_time import run
from zkp.client import revocations
from zkp.client.failures import CallFailed
from zkp.protocol.v1 import coordinator_pb2 as pb


def told(*serials: int, last: int = 0) -> pb.Revocations:
    """Return revocations with revisions up to `last`."""
    first = last - len(serials) + 1
    return pb.Revocations(
        revocations=[pb.Revocation(serial=f"{serial:x}", revision=first + n) for n, serial in enumerate(serials)]
    )


class Following:
    """Follow a network for some time, and return the revoked serials."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.refused: list[int] = []

    def play(self, seconds: float = 60.0) -> None:
        async def scenario() -> None:
            async with self.network.connect(A, B) as connection:
                following = asyncio.create_task(revocations.follow(connection, self.refused.extend))
                await asyncio.sleep(seconds)
                following.cancel()
                await asyncio.wait([following])
                assert following.cancelled()

        run(scenario())


def test_every_revocation_is_reported_once_across_leaders() -> None:
    """The next leader is asked for the revisions after the last received one."""
    network = Network({})

    async def first(_: Any) -> AsyncIterator[pb.Revocations]:
        yield told(0xA1, 0xB2, last=7)
        network.nodes[A] = follower(B)
        raise not_leader(B)

    async def second(request: pb.WatchRevocationsRequest) -> AsyncIterator[pb.Revocations]:
        assert request.after_revision == 7
        yield told()
        yield told(0xC3, last=9)
        await asyncio.Event().wait()

    network.nodes |= {A: Node(WatchRevocations=first), B: Node(WatchRevocations=second)}
    following = Following(network)
    following.play()
    assert following.refused == [0xA1, 0xB2, 0xC3]


def test_a_cluster_that_is_away_is_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """The follower retries without end and logs nothing; components with work for the cluster report it."""
    network = Network({})

    async def node(_: Any) -> AsyncIterator[pb.Revocations]:
        yield told(0xA1, last=1)
        await asyncio.Event().wait()

    async def scenario() -> list[int]:
        refused: list[int] = []
        async with network.connect(A, B) as connection:
            following = asyncio.create_task(revocations.follow(connection, refused.extend))
            await asyncio.sleep(300)
            network.nodes[B] = Node(WatchRevocations=node)
            await asyncio.sleep(60)
            following.cancel()
            await asyncio.wait([following])
        return refused

    with caplog.at_level(logging.INFO):
        assert run(scenario()) == [0xA1]
    assert caplog.text == ""


def test_a_refusal_is_logged_and_asked_about_again(caplog: pytest.LogCaptureFixture) -> None:
    """The follower retries without a restart once an operator has fixed the cause."""
    refusals = 0

    async def node(_: Any) -> AsyncIterator[pb.Revocations]:
        nonlocal refusals
        refusals += 1
        if refusals < 3:
            raise CallFailed(grpc.StatusCode.PERMISSION_DENIED, "this is for role gateway")
        yield told(0xA1, last=1)
        await asyncio.Event().wait()

    following = Following(Network({A: Node(WatchRevocations=node)}))
    following.play()
    assert following.refused == [0xA1]
    assert caplog.text.count("this is for role gateway") == 2
