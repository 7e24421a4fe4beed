"""/health and /ready: whether this node can serve, or redirect callers to a node that can."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from coordinator.replication.replicator import Replicator
from coordinator.services.cluster import Cluster
from coordinator.state.model import WorkerState
from zkp.daemon.health import Answer, MemberStatus, Status

_WELL = ("ok", "catching_up")


@dataclass(frozen=True, slots=True)
class RecordStatus:
    """State of the projection on the leader.

    status: "ok", "catching_up", "degraded" (away), "stopped" (refused); backlog: events that it lacks.
    """

    status: str
    backlog: int
    error: str

    @property
    def reason(self) -> str:
        """Why it is not "ok"; empty when it is, and on a node that does not know."""
        if self.status in ("ok", "unknown"):
            return ""
        if self.status == "catching_up":
            return "PostgreSQL answers, and the projection is catching up"
        return self.error or "PostgreSQL has not been reached yet"


class LeaderView(Protocol):
    """State that only the leader has."""

    @property
    def ready(self) -> bool:
        """True while this node leads and is prepared to accept work."""

    @property
    def connected(self) -> int:
        """The number of workers with an open stream."""


class Health:
    """Reports for the HTTPS listener and the gRPC health service. Cheap: called often, on the event loop."""

    def __init__(
        self,
        replicator: Replicator,
        cluster: Cluster,
        leader: LeaderView,
        record: Callable[[], RecordStatus],
        *,
        version: str,
        stopping: Callable[[], bool],
    ) -> None:
        self._replicator = replicator
        self._cluster = cluster
        self._leader = leader
        self._record = record
        self._member = MemberStatus("coordinator", replicator.node_id, version)
        self._stopping = stopping

    def can_serve(self) -> bool:
        """Return whether this node leads and is ready, or knows the leader; False while it stops."""
        if self._stopping():
            return False
        if self._replicator.is_leader:
            return self._leader.ready
        return self._cluster.leader_address() is not None

    def database(self) -> RecordStatus:
        """Return the status of the projection; "unknown" unless this node leads."""
        if not self._replicator.is_leader:
            return RecordStatus("unknown", len(self._replicator.state.outbox), "")
        return self._record()

    def health(self) -> Answer:
        """Return the answer of /health."""
        database = self.database()
        served = self.can_serve()
        overall = Status.UNAVAILABLE
        if served:
            degraded = self._replicator.is_leader and database.status not in _WELL
            overall = Status.DEGRADED if degraded else Status.OK
        kept = {"status": database.status, "backlog": database.backlog, "error": database.error}
        return self._member.health(overall, raft=self._raft(), database=_without_empty(kept), workers=self._workers())

    def ready(self) -> Answer:
        """Return the answer of /ready."""
        return self._member.ready(
            self.can_serve(), leader=self._replicator.leader_id, is_leader=self._replicator.is_leader
        )

    def _raft(self) -> Mapping[str, object]:
        status = self._replicator.status()
        return {
            "state": status.role,
            "membership": status.membership,
            "is_leader": self._replicator.is_leader,
            "leader": status.leader_id,
            "term": status.term,
            "commit_index": status.commit_index,
            "last_applied": status.last_applied,
            "peers": {
                peer: _without_empty({"connected": seen.connected, "match_index": seen.match_index})
                for peer, seen in sorted(status.peers.items())
            },
        }

    def _workers(self) -> Mapping[str, object]:
        counts = dict.fromkeys(WorkerState, 0)
        for worker in self._replicator.state.workers.values():
            counts[worker.state] += 1
        body: dict[str, object] = {str(state): count for state, count in counts.items()}
        if self._replicator.is_leader:
            body["connected"] = self._leader.connected
        return body


def _without_empty(values: Mapping[str, object]) -> Mapping[str, object]:
    return {key: value for key, value in values.items() if value not in (None, "")}
