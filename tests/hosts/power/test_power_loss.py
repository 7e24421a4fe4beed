"""All three coordinators lose power at once, again and again, under load: what was acknowledged is there afterwards.

ZKP_TEST_POWER_LOSS_ROUNDS says how often (3). Needs root and loop devices.
"""

import asyncio
import os
import random
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.hosts.power.images import Disk, copies, require_loop_devices
from tests.integration.cluster.network import WAIT_TIMEOUT_S, Network, eventually, frozen
from tests.integration.raft_process.coordinators import coordinators, processes
from tests.integration.raft_process.stream import Stream, lost, streaming
from zkp.client.errors import ClientError
from zkp.localcluster.errors import LocalClusterError
from zkp.localcluster.layout import COORDINATORS, POSTGRES, Layout

ROUNDS = int(os.environ.get("ZKP_TEST_POWER_LOSS_ROUNDS", "3"))
UNSYNCED = Path(__file__).parent / "unsynced"

Disks = dict[str, Disk]


@dataclass(frozen=True, slots=True)
class Round:
    """seconds: from the start of the processes, Python's own included, to a leader."""

    losses: int
    seconds: float


@pytest.fixture(scope="module", autouse=True)
def _loop_devices(tmp_path_factory: pytest.TempPathFactory) -> None:
    require_loop_devices(tmp_path_factory.mktemp("loop"))


@contextmanager
def mounted(root: Path) -> Iterator[Disks]:
    """A disk of its own for each coordinator of the cluster that will be in `root`."""
    disks: Disks = {}
    try:
        for name in COORDINATORS:
            disks[name] = Disk(Layout(root).data(name), root / "images" / name)
        yield disks
    finally:
        for disk in disks.values():
            disk.unmount()


def lose_power(network: Network, disks: Disks) -> None:
    """No instruction more from any coordinator, and nothing on its disk that was not there at that moment."""
    with frozen(*processes(network, *COORDINATORS)):
        taken = copies(disks.values())
        for name in COORDINATORS:
            network.cluster.kill(name)
    for disk, copy in taken:
        disk.replace(copy)


def power_on(network: Network) -> None:
    """Start all three again."""
    for name in COORDINATORS:
        network.cluster.start(name)


async def one_round(network: Network, disks: Disks, stream: Stream, moment: random.Random) -> Round:
    """Power is lost at a random moment under load, and in every third round again while the nodes start."""
    await stream.more(moment.randrange(100, 1_200))
    losses = 1
    await asyncio.to_thread(lose_power, network, disks)
    await asyncio.to_thread(power_on, network)
    if moment.random() < 1 / 3:
        await asyncio.sleep(moment.uniform(0.0, 2.5))
        losses += 1
        await asyncio.to_thread(lose_power, network, disks)
        await asyncio.to_thread(power_on, network)
    begun = time.monotonic()
    await asyncio.to_thread(network.cluster.wait_for_leader, WAIT_TIMEOUT_S)
    return Round(losses, time.monotonic() - begun)


def newest(network: Network, suffix: str) -> int:
    """The number in the name of the newest file of a kind that any coordinator has."""
    paths = (path for name in COORDINATORS for path in network.layout.data(name).glob(f"*.{suffix}"))
    return max((int(path.stem) for path in paths), default=0)


def test_a_copy_of_a_mounted_image_has_what_was_synced_and_nothing_else(tmp_path: Path) -> None:
    """The method itself: an unsynced write is not in the copy, a synced one is."""
    disk = Disk(tmp_path / "place", tmp_path / "images", megabytes=16)
    try:
        synced, unsynced = tmp_path / "place" / "synced", tmp_path / "place" / "unsynced"
        for path in (synced, unsynced):
            with path.open("wb") as file:
                file.write(bytes(65536))
                os.fsync(file.fileno())
        for path in (synced, unsynced):
            with path.open("r+b") as file:
                file.write(b"later" * 1_000)
                file.flush()
                if path == synced:
                    os.fdatasync(file.fileno())
        unheard = tmp_path / "place" / "unheard-of"
        unheard.write_bytes(b"never synced")
        disk.replace(disk.copy())
        assert synced.read_bytes() == b"later" * 1_000 + bytes(60536)
        assert unsynced.read_bytes() == bytes(65536)
        assert not unheard.exists() or unheard.read_bytes() == b""
    finally:
        disk.unmount()


async def test_no_acknowledged_task_is_lost_with_the_power_of_all_coordinators(tmp_path: Path, keys: Path) -> None:
    """Over and over, also while they start: the replicated state and PostgreSQL hold every one afterwards."""
    moment, root = random.Random(20), tmp_path / "zkp"
    with mounted(root) as disks, coordinators(root, keys, database_url=None) as network:
        async with network.client() as client, streaming(client) as stream:
            rounds = [await one_round(network, disks, stream, moment) for _ in range(ROUNDS)]
            await stream.more(100)
        acknowledged = list(stream.acknowledged)

        eventually("the record of every task", lambda: recorded(network) >= len(acknowledged))
        status = network.health(network.leader().id)
        segments, snapshots = newest(network, "segment"), newest(network, "snapshot")
        network.cluster.kill(POSTGRES)  # from here on only the replicated state can answer
        missing = await lost(network, acknowledged)

    seconds = [each.seconds for each in rounds]
    print(
        f"{ROUNDS} rounds, power lost {sum(each.losses for each in rounds)} times on all three coordinators: "
        f"{len(acknowledged)} tasks acknowledged, {len(missing)} lost; processes started to leader elected: "
        f"{statistics.median(seconds):.1f} s at the median, {max(seconds):.1f} s at most; "
        f"{status['raft']['last_applied']} log entries, journal segment {segments}, snapshot of entry {snapshots}"
    )
    assert missing == []
    assert status["database"] == {"status": "ok", "backlog": 0}
    assert min(segments, snapshots) > 1, "power was never lost near a new segment or a snapshot"


def recorded(network: Network) -> int:
    """How many tasks PostgreSQL holds."""
    (row,) = network.rows("SELECT count(*) AS tasks FROM tasks")
    return int(row["tasks"])


async def test_coordinators_that_do_not_sync_are_found_out(tmp_path: Path, keys: Path) -> None:
    """The same procedure finds acknowledged tasks lost when fdatasync does nothing: so it can fail."""
    moment, root = random.Random(20), tmp_path / "zkp"
    with mounted(root) as disks, coordinators(root, keys, code=UNSYNCED) as network:
        async with network.client() as client, streaming(client) as stream:
            await stream.more(moment.randrange(100, 1_200))
            await asyncio.to_thread(lose_power, network, disks)
            acknowledged = list(stream.acknowledged)
        try:
            await asyncio.to_thread(power_on, network)
            await asyncio.to_thread(network.cluster.wait_for_leader, WAIT_TIMEOUT_S)
            missing = await lost(network, acknowledged)
        except (LocalClusterError, ClientError):  # what was left of a log did not pass for one
            missing = acknowledged

    print(f"without fdatasync: {len(acknowledged)} tasks acknowledged, {len(missing)} lost")
    assert missing
