"""What a leader sends to a peer: the entries that are new to it, parts of a snapshot, or a heartbeat. No clock."""

from typing import Any

from coordinator.raft.storage.journal import Entry, Journal
from coordinator.raft.wire import EngineHost

_BATCH_BYTES = 512 << 10
_BACKLOG_BYTES = 1 << 20


class Sender:
    """Sends each entry to each peer once, and nothing more to a peer that does not read."""

    def __init__(self, journal: Journal, wire: EngineHost) -> None:
        self._journal = journal
        self._wire = wire

    def send(self, peer: str, following: int, stamp: dict[str, int], *, heartbeat_due: bool) -> int:
        """Send from entry `following` on; return the entry to continue with.

        stamp: term and commit index of the leader.
        """
        first, last = self._journal[0][1], self._journal[-1][1]
        sent = False
        while following <= last and self._wire.backlog(peer) < _BACKLOG_BYTES:
            if following <= first:
                chunk = self._wire.snapshot_chunk(peer)
                if chunk is None:
                    break
                self._wire.send(peer, {"type": "append_entries", **stamp, "serialized": chunk})
                if chunk[2]:
                    following = self._wire.snapshot_index(peer) + 1
            else:
                entries = self._batch(following - first)
                self._send_entries(peer, following - 1, entries, stamp)
                following = entries[-1][1] + 1
            sent = True
        if heartbeat_due and not sent:
            # Behind the first entry there is nothing to compare with: then the heartbeat refers to that one.
            self._send_entries(peer, max(following - 1, first), [], stamp)
        return following

    def _send_entries(self, peer: str, previous: int, entries: list[Entry], stamp: dict[str, int]) -> None:
        position = previous - self._journal[0][1]
        message: dict[str, Any] = {"type": "append_entries", **stamp, "entries": entries}
        self._wire.send(peer, message | {"prevLogIdx": previous, "prevLogTerm": self._journal[position][2]})

    def _batch(self, position: int) -> list[Entry]:
        """Entries from `position` on, at least one, about _BATCH_BYTES at most."""
        size, end = 0, position
        while end < len(self._journal) and size < _BATCH_BYTES:
            size += len(self._journal[end][0])
            end += 1
        return self._journal[position:end]
