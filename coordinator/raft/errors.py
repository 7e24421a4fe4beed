"""Errors of the raft package."""

REJOIN = "run `coordinator rejoin` on this directory and start again: the others catch this node up"
"""Remedy for unusable files, appended to error messages."""


class RaftError(Exception):
    """Base of all errors of the raft package."""


class StorageError(RaftError):
    """The node's files cannot be used; the message names the file and the remedy. The process exits."""


class UpgradeRequired(StorageError):
    """The log holds an entry that this version cannot read; skipping it would make the replicas diverge."""


class NotLeader(RaftError):
    """This node is not the leader and did not accept the command. `leader_id`: the leader, if known."""

    def __init__(self, leader_id: str | None) -> None:
        super().__init__("this node does not lead" + (f"; {leader_id} does" if leader_id else ""))
        self.leader_id = leader_id


class OutcomeUnknown(RaftError):
    """Leadership was lost or the deadline passed before commit: the command may still be committed."""


class TransferRefused(RaftError):
    """Leadership cannot be transferred now; the message gives the reason."""


class FrameError(RaftError):
    """A peer sent a malformed frame; its connection is closed."""
