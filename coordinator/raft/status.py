"""Options and status of a node. Values only."""

from dataclasses import dataclass

from coordinator.raft.snapshots import TRAILING_ENTRIES


@dataclass(frozen=True, slots=True)
class RaftOptions:
    """heartbeat, election_timeout: seconds; an election starts after one to two election timeouts of silence."""

    node_id: str
    peer_ids: tuple[str, ...]
    bootstrap: bool
    heartbeat: float = 0.05
    election_timeout: float = 0.25
    snapshot_entries: int = 20_000
    snapshot_bytes: int = 64 << 20
    trailing_entries: int = TRAILING_ENTRIES
    segment_bytes: int = 16 << 20


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """What a leader knows of one peer."""

    connected: bool
    match_index: int | None
    """Highest entry known to be the peer's too; None unless this node leads."""
    silence: float | None = None
    """Seconds since the peer last answered; None unless this node leads and has had contact."""


@dataclass(frozen=True, slots=True)
class RaftStatus:
    """Status from this node's point of view; only that of the leader is reliable for the cluster."""

    node_id: str
    role: str
    """"leader", "follower", "candidate", or "waiting" while in no cluster."""
    leader_id: str | None
    term: int
    commit_index: int
    last_applied: int
    log_entries: int
    snapshot_index: int
    membership: str
    peers: dict[str, PeerStatus]
    leader_silence: float | None = None
    """Seconds since the last contact with a leader, 0 on the leader itself; None before the first."""
