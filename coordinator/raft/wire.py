"""What the engine reaches through: its messages, its state machine, its snapshots.

Nothing is acknowledged before it is on disk: every message that refers to this node's log, other than a
leader's entries, leaves after the journal was synced.
"""

import logging
from collections.abc import Callable
from typing import Any

from coordinator.raft.errors import RaftError, StorageError
from coordinator.raft.snapshots import Snapshots, StateMachine
from coordinator.raft.storage.journal import Entry, Journal
from coordinator.raft.transport import framing
from zkp.protocol.v1 import raft_pb2 as pb

log = logging.getLogger("zkp.raft")


class EngineHost:
    """send, backlog: as of an Outbox; `send` stamps the envelope."""

    def __init__(
        self,
        journal: Journal,
        snapshots: Snapshots,
        machine: StateMachine,
        send: Callable[[str, pb.Envelope], None],
        backlog: Callable[[str], int],
    ) -> None:
        self._journal = journal
        self._snapshots = snapshots
        self._machine = machine
        self._send = send
        self.backlog = backlog

    def send(self, peer_id: str, message: dict[str, Any]) -> None:
        """Sync what a message of the engine states, then send it."""
        if message["type"] == "apply_command":
            return  # Leadership was lost between proposing and the tick: its caller has its answer already.
        if message["type"] != "append_entries":
            # A leader's own entries may still be on their way to its disk when it sends them: it commits
            # nothing before they are there. Everything else is a promise about what this node has stored.
            self._journal.sync()
        self._send(peer_id, framing.from_engine(message))

    def apply(self, command: bytes, index: int) -> object:
        """Apply a committed command."""
        try:
            return self._machine.apply(command, index)
        except StorageError:
            raise
        except Exception as error:
            log.critical("entry %d could not be applied and is skipped", index, exc_info=error)
            return RaftError("the command could not be applied")

    def snapshot_chunk(self, peer_id: str) -> tuple[bytes, bool, bool] | None:
        """The next part of the latest snapshot for the peer: (data, first, last)."""
        return self._snapshots.next_chunk(peer_id)

    def snapshot_index(self, peer_id: str) -> int:
        """Return the index of the last entry in the snapshot whose last part was just sent."""
        return self._snapshots.sent_index(peer_id)

    def cancel_snapshot(self, peer_id: str) -> None:
        """Stop sending a snapshot to a peer."""
        self._snapshots.cancel(peer_id)

    def receive_chunk(self, data: bytes, first: bool, last: bool, applied: int) -> None:
        """Take a part of the leader's snapshot, which is of use if it is newer than entry `applied`."""
        self._snapshots.receive(data, first=first, last=last, last_applied=applied)

    def restore(self) -> tuple[Entry, Entry] | None:
        """Put the latest durable snapshot into effect; its last two log entries."""
        return self._snapshots.restore()
