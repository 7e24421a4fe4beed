"""The members of the cluster as this node sees them: addresses and roles."""

from collections.abc import Sequence
from dataclasses import dataclass

from coordinator.replication.replicator import Replicator


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One coordinator; addresses are HOST:PORT as others reach it."""

    id: str
    raft_address: str
    grpc_address: str


class Cluster:
    """Every member, this node included."""

    def __init__(self, members: Sequence[NodeStatus], replicator: Replicator) -> None:
        self.members = tuple(members)
        self._by_id = {member.id: member for member in members}
        self._replicator = replicator

    def leader_address(self) -> str | None:
        """Return the gRPC address of another node that leads; None while none is known."""
        leader_id = self._replicator.leader_id
        if leader_id is None or leader_id == self._replicator.node_id:
            return None
        member = self._by_id.get(leader_id)
        return None if member is None else member.grpc_address

    def roles(self) -> dict[str, str]:
        """Member id → "leader", "follower", "candidate", "unreachable" or "unknown", as known to this node.

        "unknown": a follower that knows no leader does not know the roles of its peers.
        """
        status = self._replicator.status()
        roles: dict[str, str] = {}
        for member in self.members:
            peer = status.peers.get(member.id)
            if member.id == status.node_id:
                roles[member.id] = status.role
            elif peer is None or not peer.connected:
                roles[member.id] = "unreachable"
            elif member.id == status.leader_id:
                roles[member.id] = "leader"
            else:
                roles[member.id] = "follower" if status.leader_id else "unknown"
        return roles
