"""What can go wrong in the Raft room."""

REJOIN = "run `coordinator rejoin` on this directory and start again: the others catch this node up"
"""The cure for files that cannot be used."""


class RaftError(Exception):
    """Base of all errors of this room."""


class StorageError(RaftError):
    """The node's own files cannot be used; the message names the file and the cure. Ends the process."""


class UpgradeRequired(StorageError):
    """The log says something that this version does not understand: going on would be another history."""


class NotLeader(RaftError):
    """This node does not lead; the command was certainly not accepted. `leader_id` may know who does."""

    def __init__(self, leader_id: str | None) -> None:
        super().__init__("this node does not lead" + (f"; {leader_id} does" if leader_id else ""))
        self.leader_id = leader_id


class OutcomeUnknown(RaftError):
    """Leadership or time ran out while the command was on its way: it may or may not be accepted later."""


class TransferRefused(RaftError):
    """Leadership cannot be handed over now; the message says why."""


class FrameError(RaftError):
    """A peer sent bytes that are no frame of ours: its connection is closed."""
