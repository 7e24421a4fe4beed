"""Processes that are killed and stopped under load: no acknowledged task is lost, nobody is disturbed for nothing."""

import asyncio
import random

from tests.integration.cluster.network import WAIT_TIMEOUT_S, Network, frozen
from tests.integration.raft_process.coordinators import followers, processes, wait_until_caught_up
from tests.integration.raft_process.stream import lost, streaming
from zkp.localcluster.layout import COORDINATORS

ROUNDS = 4
PAUSE_S = 3.0  # three election timeouts


def victims(network: Network, moment: random.Random) -> list[str]:
    """The leader, a follower, two or all: which, chance says."""
    leader, others = network.leader().id, followers(network)
    choices = [[leader], [moment.choice(others)], [leader, others[0]], others, list(COORDINATORS)]
    return moment.choice(choices)


async def test_coordinators_killed_at_random_points_under_load_lose_nothing(network: Network) -> None:
    """One, two or all three at once, time after time."""
    moment = random.Random(3)
    async with network.client() as client, streaming(client) as stream:
        for _ in range(ROUNDS):
            await stream.more(moment.randrange(50, 500))
            killed = await asyncio.to_thread(victims, network, moment)
            for process in processes(network, *killed):
                process.kill()
            for name in killed:
                await asyncio.to_thread(network.cluster.kill, name)  # so that the cluster knows
                await asyncio.to_thread(network.cluster.start, name)
        await stream.more(50)
    for name in COORDINATORS:
        await asyncio.to_thread(wait_until_caught_up, network, name)
    assert await lost(network, stream.acknowledged) == []


async def test_a_leader_that_slept_comes_back_as_a_follower_without_another_election(network: Network) -> None:
    """The others elect one of them meanwhile; its return changes neither leader nor term, and loses nothing."""
    before = network.leader()
    async with network.client() as client, streaming(client) as stream:
        await stream.more(50)
        with frozen(network.process(before.id)):
            after = await asyncio.to_thread(network.cluster.wait_for_leader, WAIT_TIMEOUT_S, other_than=before)
            # Who is connected to the sleeper notices it after a while only; others need not wait for that.
            async with network.client() as another, streaming(another) as meanwhile:
                await meanwhile.more(50)
            await asyncio.sleep(PAUSE_S)
        await asyncio.to_thread(wait_until_caught_up, network, before.id)
        await stream.more(50)
        agreed = await asyncio.to_thread(network.agreed)

    assert after.id != before.id
    assert agreed == (after.id, after.term)
    assert await lost(network, [*stream.acknowledged, *meanwhile.acknowledged]) == []


async def test_a_follower_that_slept_comes_back_without_an_election(network: Network) -> None:
    """It asks before it campaigns, and is told that there is a leader."""
    before = await asyncio.to_thread(network.agreed)
    sleeper = followers(network)[0]
    async with network.client() as client, streaming(client) as stream:
        with frozen(network.process(sleeper)):
            await asyncio.sleep(PAUSE_S)
            await stream.more(50)
        await asyncio.to_thread(wait_until_caught_up, network, sleeper)
        await stream.more(50)

    assert network.agreed() == before
    assert await lost(network, stream.acknowledged) == []
