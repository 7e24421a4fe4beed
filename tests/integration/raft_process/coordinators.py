"""Three coordinators and their gateway, without workers: what is submitted stays, in the replicated state alone."""

import os
from contextlib import AbstractContextManager
from pathlib import Path

import psutil

from tests.integration.cluster.network import Network, eventually, running
from zkp.localcluster.layout import COORDINATORS

NO_RECORD = "postgresql:///zkp?host=/nonexistent"
"""A PostgreSQL that is away for good: nothing is answered from it that the cluster has forgotten."""

TUNED = Path(__file__).parent / "tuned"


def coordinators(
    directory: Path, keys: Path, *, code: Path = TUNED, database_url: str | None = NO_RECORD
) -> AbstractContextManager[Network]:
    """The network, up. code: a directory that its processes import from before all others."""
    imported_from = os.pathsep.join(filter(None, (str(code), os.environ.get("PYTHONPATH"))))
    return running(
        directory,
        keys,
        database_url=database_url,
        workers=0,
        variables={"PYTHONPATH": imported_from, "COORDINATOR_RAFT_HEARTBEAT": "100ms"},
    )


def applied(network: Network, member: str) -> int:
    """The last log entry that the node has applied; -1 while it does not answer."""
    return int(network.health(member).get("raft", {}).get("last_applied", -1))


def is_voter(network: Network, member: str) -> bool:
    """The node holds what the cluster committed, and votes."""
    return str(network.health(member).get("raft", {}).get("membership", "")).startswith("member of cluster")


def wait_until_caught_up(network: Network, member: str) -> None:
    """The node has applied everything that its leader had when this was called."""
    wanted = applied(network, network.leader().id)
    eventually(f"{member} caught up", lambda: applied(network, member) >= wanted)


def followers(network: Network) -> list[str]:
    """The coordinators that do not lead now."""
    leader = network.leader().id
    return [name for name in COORDINATORS if name != leader]


def has_ended(network: Network, member: str) -> bool:
    """The node's process has ended by itself."""
    return next(found.pid for found in network.cluster.members() if found.name == member) is None


def empty(directory: Path) -> None:
    """A node's directory as a new disk has it."""
    for path in directory.iterdir():
        path.unlink()


def processes(network: Network, *members: str) -> list[psutil.Process]:
    """The main processes of these members."""
    return [network.process(member) for member in members]
