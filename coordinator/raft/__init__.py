"""Consensus: an ordered log of opaque commands that a quorum has on disk. The only importer of pysyncobj.

`RaftRunner` is what the rest of the coordinator uses; it knows nothing of tasks. DESIGN.md explains the shell.
"""

from coordinator.raft.errors import (
    NotLeader,
    OutcomeUnknown,
    RaftError,
    StorageError,
    TransferRefused,
    UpgradeRequired,
)
from coordinator.raft.node import MAX_COMMAND_BYTES
from coordinator.raft.runner import RaftRunner
from coordinator.raft.status import PeerStatus, RaftOptions, RaftStatus
from coordinator.raft.storage.snapshot_file import SnapshotFile
from zkp.daemon.settings import Address

__all__ = [
    "MAX_COMMAND_BYTES",
    "Address",
    "NotLeader",
    "OutcomeUnknown",
    "PeerStatus",
    "RaftError",
    "RaftOptions",
    "RaftRunner",
    "RaftStatus",
    "SnapshotFile",
    "StorageError",
    "TransferRefused",
    "UpgradeRequired",
]
