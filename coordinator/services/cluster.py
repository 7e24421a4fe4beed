"""The members of the cluster as this node sees them: where they are, and what each of them is now."""

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
        """Where another node leads, for whoever is to be sent there; None while no other is known to."""
        leader_id = self._replicator.leader_id
        if leader_id is None or leader_id == self._replicator.node_id:
            return None
        member = self._by_id.get(leader_id)
        return None if member is None else member.grpc_address

    def roles(self) -> dict[str, str]:
        """Member id → "leader", "follower", "candidate", "unreachable" or "unknown", as this node believes.

        "unknown": a follower that not the leader; it names none cannot tell what its peers are.
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
