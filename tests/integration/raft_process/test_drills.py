"""What docs/operations.md tells an operator to do when a node refuses its files, or has lost them: it works."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from coordinator.cli import main
from coordinator.raft.storage.segment import HEADER_SIZE
from tests.integration.cluster.network import Network, eventually
from tests.integration.raft_process.coordinators import NO_RECORD, empty, followers, has_ended
from tests.integration.raft_process.stream import lost, streaming
from zkp.localcluster.cluster import DATABASE_VARIABLE
from zkp.localcluster.layout import COORDINATORS
from zkp.localcluster.logs import last_error
from zkp.localcluster.process import python_module

CURE = "run `coordinator rejoin` on this directory and start again: the others catch this node up"


def coordinator(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """The command, as an operator types it."""
    line = python_module("coordinator", *map(str, arguments))
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def newest(directory: Path, pattern: str) -> Path:
    return max(directory.glob(pattern))


def oldest(directory: Path, pattern: str) -> Path:
    return min(directory.glob(pattern))


def flip(path: Path, offset: int) -> None:
    """Every bit of one byte."""
    data = bytearray(path.read_bytes())
    data[offset] ^= 0xFF
    path.write_bytes(data)


def membership(network: Network, member: str) -> str:
    return str(network.health(member).get("raft", {}).get("membership", ""))


def wait_until_it_adopts(network: Network, member: str) -> None:
    """The node says which cluster it is in, and that it does not vote."""
    eventually(f"{member} in a cluster", lambda: membership(network, member).endswith("does not vote yet"))


def wait_until_it_votes(network: Network, member: str) -> None:
    """The node says that it is a full member."""
    eventually(f"{member} votes", lambda: membership(network, member).startswith("member of cluster"))


def has_cut_its_log(network: Network, member: str) -> bool:
    """The node has a snapshot, and has removed journal segments behind it."""
    directory = network.layout.data(member)
    return any(directory.glob("*.snapshot")) and not (directory / "000000000001.segment").exists()


async def until_all_have_cut_their_logs(network: Network) -> list[str]:
    """Load the cluster for so long; the ids of acknowledged tasks."""
    async with network.client() as client, streaming(client) as stream:
        while not all(has_cut_its_log(network, name) for name in COORDINATORS):
            await stream.more(100)
    return stream.acknowledged


Damage = tuple[Callable[[Path], Path], int, str]
"""(the file in a node's directory, the byte, what the node says of it)"""

_INDEX_IN_RECORD = 20
"""A byte that every kind of record has: some, like the mark of a log that was cut, have no payload at all."""

DAMAGES: dict[str, Damage] = {
    "header": (lambda directory: oldest(directory, "*.segment"), 20, "journal segment {} has a damaged header"),
    "record": (
        lambda directory: oldest(directory, "*.segment"),
        HEADER_SIZE + _INDEX_IN_RECORD,
        f"journal segment {{}} is damaged at byte {HEADER_SIZE}, before entries that were acknowledged",
    ),
    "snapshot": (lambda directory: newest(directory, "*.snapshot"), 1_000, "snapshot {} is damaged"),
    "vote": (lambda directory: directory / "vote", 5, "file {} is damaged"),
    "membership": (lambda directory: directory / "membership", 5, "file {} is damaged"),
}


@pytest.mark.parametrize("kind", DAMAGES)
async def test_one_damaged_byte_in_any_file_is_refused_and_rejoin_heals_the_node(network: Network, kind: str) -> None:
    """The node names the file and the cure and ends; the cluster goes on; after the cure the node votes again."""
    acknowledged = await until_all_have_cut_their_logs(network)
    find, offset, says = DAMAGES[kind]
    victim, _ = followers(network)
    directory = network.layout.data(victim)
    network.cluster.stop(victim)
    path = find(directory)
    flip(path, offset)

    network.cluster.start(victim)
    eventually(f"the end of {victim}", lambda: has_ended(network, victim))
    assert last_error(network.layout.log(victim)).endswith(f"{directory}: {says.format(path.name)}: {CURE}")
    async with network.client() as client, streaming(client) as stream:
        await stream.more(20)
        healed = await asyncio.to_thread(coordinator, "rejoin", directory)
        network.cluster.start(victim)
        await asyncio.to_thread(wait_until_it_votes, network, victim)
        await stream.more(20)

    aside = next(path for path in directory.iterdir() if path.is_dir())
    assert (healed.returncode, healed.stderr) == (0, "")
    assert healed.stdout == f"set aside in {aside}: {says.format(path.name)}\n"
    assert (aside / path.name).exists()
    shutil.rmtree(aside)
    assert await lost(network, [*acknowledged, *stream.acknowledged]) == []


async def test_a_node_that_lost_its_disk_is_caught_up_and_counts_again(network: Network) -> None:
    """It starts empty, and once it votes, the cluster can do without the third node."""
    acknowledged = await until_all_have_cut_their_logs(network)
    victim, third = followers(network)
    await asyncio.to_thread(network.cluster.kill, victim)
    empty(network.layout.data(victim))
    async with network.client() as client, streaming(client) as stream:
        await stream.more(20)
        network.cluster.start(victim)
        await asyncio.to_thread(wait_until_it_votes, network, victim)
        await asyncio.to_thread(network.cluster.kill, third)
        await stream.more(20)
    assert await lost(network, [*acknowledged, *stream.acknowledged]) == []


async def test_with_two_of_three_disks_lost_an_operator_can_force_a_vote(network: Network) -> None:
    """Nobody is elected by nodes that have forgotten everything, until an operator answers for one of them."""
    survivor, victims = network.leader().id, followers(network)
    async with network.client() as client, streaming(client) as stream:
        await stream.more(50)
        for name in victims:
            await asyncio.to_thread(network.cluster.kill, name)
            empty(network.layout.data(name))
        for name in victims:
            network.cluster.start(name)
        for name in victims:
            await asyncio.to_thread(wait_until_it_adopts, network, name)
        assert network.cluster.leader() is None

        await asyncio.to_thread(network.cluster.stop, victims[0])
        forced = await asyncio.to_thread(coordinator, "force-vote", network.layout.data(victims[0]))
        begun = {name: network.log_size(name) for name in (survivor, victims[0])}
        network.cluster.start(victims[0])
        for name in victims:
            await asyncio.to_thread(wait_until_it_votes, network, name)
        await stream.more(20)

    assert (forced.returncode, forced.stderr) == (0, "")
    assert forced.stdout == f"{victims[0]} votes from its next start on, whatever it lacks\n"
    # The survivor; or the other, if the survivor had time to catch it up before it noticed that it leads nobody.
    assert any("entering leader state" in network.log(name, size) for name, size in begun.items())
    assert await lost(network, stream.acknowledged) == []


@pytest.mark.parametrize("command", ["rejoin", "force-vote"])
def test_the_files_of_a_running_node_are_left_alone(
    network: Network, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both cures say to stop it first."""
    member = followers(network)[0]
    directory = network.layout.data(member)
    assert main([command, str(directory)]) == 1
    assert capsys.readouterr().err == (
        f"error: {directory}: a running coordinator uses this directory: stop it first\n"
    )
    assert not any(path.is_dir() for path in directory.iterdir())


def test_two_coordinators_never_share_a_directory(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second ends with one line, and the first goes on."""
    monkeypatch.setenv(DATABASE_VARIABLE, NO_RECORD)
    member = followers(network)[0]
    before = network.agreed()
    second = coordinator("--config", network.layout.config(member))
    assert second.returncode == 1
    assert f"{network.layout.data(member)}: a running coordinator uses this directory: stop it first" in second.stderr
    assert "Traceback" not in second.stderr
    assert network.agreed() == before
