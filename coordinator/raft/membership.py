"""Which cluster this node belongs to, and whether it may vote in it. Pure but for its one small file.

A cluster is founded once, by the node that is configured to bootstrap, and only after every other node has said that
it knows of no cluster: so a wiped disk never founds a second one. A node with an empty disk that finds a cluster with
history adopts it and neither votes nor campaigns until it has caught up: it may have voted, or acknowledged
entries, before its disk was wiped.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from coordinator.raft.errors import REJOIN, StorageError
from coordinator.raft.storage.checksummed_json import ChecksumError, dump, load
from coordinator.raft.storage.disk import Disk

log = logging.getLogger("zkp.raft")

_FILE = "membership"
_FIRST_INDEX = 1
"""Every log begins with one entry that says nothing."""


class MemberState(StrEnum):
    """WAITING: knows no cluster. CATCHING_UP: adopted one with history. VOTER: a full member."""

    WAITING = "waiting"
    CATCHING_UP = "catching_up"
    VOTER = "voter"


@dataclass(frozen=True, slots=True)
class PeerView:
    """What a peer last said of itself."""

    cluster_id: str
    last_log_index: int


class Membership:
    """This node's membership; `make_id` gives a new random cluster id (32 hexadecimal digits)."""

    def __init__(
        self, disk: Disk, node_id: str, peer_ids: list[str], *, bootstrap: bool, make_id: Callable[[], str]
    ) -> None:
        self._disk = disk
        self._node_id = node_id
        self._bootstrap = bootstrap
        self._make_id = make_id
        self._views: dict[str, PeerView | None] = dict.fromkeys(peer_ids)
        self.cluster_id = ""
        self.standing = MemberState.WAITING
        self._read()
        self._decide()

    def on_hello(self, peer: str, view: PeerView) -> bool:
        """Process a hello of a peer. Return True when this node has just become a member of a cluster."""
        self._views[peer] = view
        return self._decide()

    def caught_up(self) -> None:
        """Mark this node as caught up: it may vote again."""
        self._store(self.cluster_id, MemberState.VOTER)
        log.info("caught up with the cluster: this node votes again")

    def describe(self) -> str:
        """One sentence for operators, for /health and the log."""
        if self.standing is MemberState.VOTER:
            return f"member of cluster {self.cluster_id}"
        if self.standing is MemberState.CATCHING_UP:
            return f"catching up with cluster {self.cluster_id}; does not vote yet"
        missing = [peer for peer, view in self._views.items() if view is None]
        waits = f"waiting to hear from {', '.join(missing)}" if missing else "waiting for the bootstrap node"
        return f"in no cluster yet: {waits}"

    def _decide(self) -> bool:
        if self.standing is not MemberState.WAITING:
            return False
        views = list(self._views.values())
        heard = [view for view in views if view is not None]
        known = next((view.cluster_id for view in heard if view.cluster_id), "")
        if known and any(view.last_log_index > _FIRST_INDEX for view in heard):
            log.warning("adopting cluster %s, which has history: catching up before voting", known)
            self._store(known, MemberState.CATCHING_UP)
            return True
        if len(heard) < len(views):
            return False
        if known:
            self._store(known, MemberState.VOTER)
        elif self._bootstrap:
            self._store(self._make_id(), MemberState.VOTER)
            log.info("cluster bootstrapped", extra={"cluster_id": self.cluster_id, "node_id": self._node_id})
        else:
            return False
        return True

    def _store(self, cluster_id: str, standing: MemberState) -> None:
        try:
            self._disk.replace(
                _FILE, dump({"cluster_id": cluster_id, "node_id": self._node_id, "standing": standing})
            )
        except OSError as error:
            raise StorageError(f"membership: {error}: free space or replace the disk") from error
        self.cluster_id, self.standing = cluster_id, standing

    def _read(self) -> None:
        data = self._disk.read(_FILE)
        if data is None:
            if any(name.endswith(".segment") for name in self._disk.names()):
                raise StorageError(f"file {_FILE} is missing beside a journal: {REJOIN}")
            return
        try:
            stored = load(data)
            node_id, standing = stored["node_id"], MemberState(stored["standing"])
            cluster_id = str(stored["cluster_id"])
        except (ChecksumError, ValueError, KeyError) as error:
            raise StorageError(f"file {_FILE} is damaged: {REJOIN}") from error
        if node_id != self._node_id:
            raise StorageError(
                f"the raft directory belongs to {node_id}, this node is {self._node_id}: "
                "set node.id or node.data_dir to match"
            )
        self.cluster_id, self.standing = cluster_id, standing
