"""A directory for one measurement: certificates, keys, clusters, all gone afterwards."""

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.bench.raft import coordinators, empty, etcd, identities
from tests.bench.raft.clusters import Cluster

Made = TypeVar("Made", bound=Cluster)

# etcd's own timers, so that throughput is compared with as many heartbeats on both sides.
LIKE_ETCD: coordinators.Options = {"raft": {"heartbeat": "100ms", "election_timeout": "1s"}}


@dataclass(slots=True)
class Workshop:
    """Makes clusters; each has a directory of its own."""

    directory: Path
    _made: int = field(default=0)

    @property
    def identities(self) -> Path:
        """Where the certificates are."""
        return self.directory / "identities"

    @property
    def keys(self) -> Path:
        """Where the circuit keys are."""
        return self.directory / "keys"

    def etcd(self, election_ms: int | None = None) -> Cluster:
        """etcd, not started yet; None: with its own timers."""
        return etcd.EtcdCluster(self._next(), self.identities, election_ms)

    def coordinators(self, options: coordinators.Options | None = None) -> coordinators.CoordinatorCluster:
        """Ours, not started yet."""
        return coordinators.CoordinatorCluster(self._next(), self.identities, self.keys, options)

    def empty(self) -> empty.EmptyServer:
        """A server that does nothing, not started yet."""
        return empty.EmptyServer(self._next(), self.identities)

    def _next(self) -> Path:
        self._made += 1
        return self.directory / f"cluster-{self._made}"


@contextlib.contextmanager
def workshop(parent: Path | None) -> Iterator[Workshop]:
    """A new one below `parent` (None: where temporary files go); the disk under it is what is measured."""
    directory = Path(tempfile.mkdtemp(prefix="zkp-bench-", dir=parent))
    try:
        found = Workshop(directory)
        identities.issue(found.identities, (*etcd.MEMBERS, *coordinators.MEMBERS))
        found.keys.mkdir()
        coordinators.make_keys(found.keys)
        yield found
    finally:
        shutil.rmtree(directory)


@contextlib.contextmanager
def running(make: Callable[[], Made]) -> Iterator[Made]:
    """A cluster from start to end."""
    cluster = make()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
