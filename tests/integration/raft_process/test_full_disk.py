"""A node whose disk is full ends itself before it acknowledges anything; the others go on, and take it back."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration.cluster.network import Network
from tests.integration.raft_process.coordinators import empty, followers, has_ended, wait_until_caught_up
from tests.integration.raft_process.mounts import mount, require_root, skip_unmountable, unmount
from tests.integration.raft_process.stream import lost, streaming
from zkp.localcluster.logs import last_error

SIZE = 64 << 20
LEFT = 24 << 10
"""Room for one more segment of a coordinator under test, and not for two."""


@contextmanager
def small_disk(network: Network, member: str) -> Iterator[Path]:
    """A new, empty tmpfs for the node, which is down; afterwards it has its old disk, emptied, and is down again.

    Skips the test, with the reason, where no tmpfs can be mounted.
    """
    require_root()
    place = network.layout.data(member)
    network.cluster.stop(member)
    try:
        mount("tmpfs", place, "-t", "tmpfs", "-o", f"size={SIZE},mode=0700")
    except subprocess.CalledProcessError as error:
        skip_unmountable(error)
    try:
        yield place
    finally:
        network.cluster.kill(member)
        unmount(place)
        empty(place)  # older than what the node has promised since: it must not come back


def fill(place: Path) -> Path:
    """Something else takes all the space but LEFT; its file."""
    filler = place / "filler"
    space = os.statvfs(place)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, space.f_bavail * space.f_frsize - LEFT)
    return filler


@pytest.mark.parametrize("leading", [True, False], ids=["leader", "follower"])
async def test_a_node_with_a_full_disk_ends_itself_and_comes_back(network: Network, leading: bool) -> None:
    """With one clear line; nothing acknowledged is lost, and with space again it catches up."""
    victim = followers(network)[0]
    with small_disk(network, victim) as place:
        network.cluster.start(victim)
        wait_until_caught_up(network, victim)
        async with network.client() as client, network.admin() as admin:
            if leading:
                await admin.transfer_leadership(victim)
            begun = network.log_size(victim)
            async with streaming(client) as stream:
                await stream.more(50)
                filler = fill(place)
                while not has_ended(network, victim):
                    await stream.more(50)
                await stream.more(50)
                words = last_error(network.layout.log(victim))
                filler.unlink()
                network.cluster.start(victim)
                wait_until_caught_up(network, victim)
                await stream.more(50)

        full = r"(journal|snapshot \d+): \[Errno 28\] No space left on device: free space or replace the disk"
        assert re.search(f"{re.escape(str(place))}: {full}", words), words
        assert "Traceback" not in network.log(victim, begun)
        assert await lost(network, stream.acknowledged) == []
