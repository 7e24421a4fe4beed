"""Taking, sending and receiving snapshots while the node goes on working. No clock, no sockets."""

import logging
from collections.abc import Callable, Iterator
from typing import Protocol

from coordinator.raft.disk import Disk
from coordinator.raft.errors import StorageError
from coordinator.raft.journal import Entry, Journal
from coordinator.raft.snapshot import SnapshotError, SnapshotStore, decode, encode

log = logging.getLogger("zkp.raft")

CHUNK_BYTES = 256 << 10
MAX_SNAPSHOT_BYTES = 2 << 30
TRAILING_ENTRIES = 1_000
"""Kept before a snapshot's end, so that a follower which lags a little needs no snapshot; fewer if they are large."""


class StateMachine(Protocol):
    """What is replicated. Everything is called on the node's own thread; what `capture` gives is used in another."""

    def apply(self, entry: bytes, index: int) -> object:
        """Carry out one log entry. Must not raise: every node would stop at the same entry.

        But UpgradeRequired, when only this node does not understand it.
        """

    def capture(self) -> Iterator[bytes]:
        """Freeze the state as it is now, quickly. Its parts are encoded as they are asked for, a millisecond each."""

    def restore(self, state: bytes) -> None:
        """Replace the state. Raises ValueError when the bytes do not decode."""


Work = Callable[[Callable[[], None]], int]
"""work(give_way): calls `give_way` at least every millisecond or so that it keeps the interpreter busy."""

Offload = Callable[[Work, Callable[[int], None]], None]
"""offload(work, done): run `work` away from the node's thread, then `done(result)` on it, where what `work` raises is
raised, too."""


class Snapshots:
    """The snapshots of one node: made here, sent to peers that lag, received from the leader."""

    def __init__(
        self,
        disk: Disk,
        cluster_id: str,
        journal: Journal,
        machine: StateMachine,
        offload: Offload,
        *,
        trailing_entries: int = TRAILING_ENTRIES,
    ) -> None:
        self._store = SnapshotStore(disk, cluster_id)
        self._cluster_id = cluster_id
        self._journal = journal
        self._machine = machine
        self._offload = offload
        self._trailing_entries = trailing_entries
        self._taking = False
        self._sending: dict[str, tuple[int, int, int]] = {}
        """Peer → (snapshot index, offset of the next part, checksum of what went before it)."""
        self._receiving = bytearray()
        self.index = 0
        """Last entry of the latest durable snapshot."""

    # ------------------------------------------------------------ making

    def take_when_due(self, last_applied: int, max_entries: int, max_bytes: int, *, behind: bool = False) -> None:
        """Begin a snapshot when the log behind the last one has grown past either bound.

        behind: entries wait to be applied. They count as bytes of the log, and a snapshot would not remove them.
        """
        applied = last_applied - max(self.index, 1)
        if self._taking or not applied:
            return
        if applied < max_entries and (behind or self._journal.payload_bytes < max_bytes):
            return
        # What stays behind must leave room to grow: else the very next entry would make another snapshot due.
        self._take(last_applied, trailing_bytes=max_bytes // 4)

    def _take(self, index: int, trailing_bytes: int) -> None:
        position = index - self._journal[0][1]
        if position < 1:
            return
        before, last = self._journal[position - 1], self._journal[position]
        state = self._machine.capture()
        self._taking = True

        def work(give_way: Callable[[], None]) -> int:
            try:
                data = encode(before, last, state, self._cluster_id, give_way)
            except Exception as error:
                log.error("a snapshot could not be made: trying again", exc_info=error)
                return 0
            self._store.save(index, data)
            return len(data)

        self._offload(work, lambda size: self._taken(index, size, trailing_bytes))

    def _taken(self, index: int, size: int, trailing_bytes: int) -> None:
        self._taking = False
        if size:
            self._store.prune()
        if not size or index <= self.index:
            return  # It failed, or a newer one came from the leader meanwhile.
        self.index = index
        self._cut_back(index, trailing_bytes)
        log.info("snapshot of entry %d stored, %d bytes", index, size)

    def _cut_back(self, index: int, trailing_bytes: int) -> None:
        """Forget entries that the snapshot of `index` makes superfluous. The log begins before that entry."""
        position = index - 1 - self._journal[0][1]
        oldest = max(position - self._trailing_entries, 0)
        size = 0
        while position > oldest and size + len(self._journal[position - 1][0]) <= trailing_bytes:
            position -= 1
            size += len(self._journal[position][0])
        if position > 0:
            self._journal.deleteEntriesTo(position)

    def restore(self) -> tuple[Entry, Entry] | None:
        """Load the latest snapshot into the state machine; its last two entries. Raises StorageError."""
        found = self._store.latest()
        if found is None:
            return None
        snapshot, _ = found
        try:
            self._machine.restore(snapshot.state)
        except ValueError as error:
            raise StorageError(f"snapshot {snapshot.index} does not load: {error}") from error
        self.index = snapshot.index
        return snapshot.before, snapshot.last

    # ------------------------------------------------------------ sending

    def next_chunk(self, peer: str) -> tuple[bytes, bool, bool] | None:
        """(data, first, last) for the peer; None when there is no snapshot yet. Raises StorageError.

        Read from the disk a part at a time: a large one, all at once, would stop the leader for too long.
        """
        while True:
            index, offset, checksum = self._sending.get(peer) or (self._store.newest(), 0, 0)
            if index is None:
                return None
            if not offset:
                log.info("sending snapshot of entry %d", index, extra={"peer": peer})
            found = self._store.read_part(index, offset, CHUNK_BYTES, checksum)
            if found is not None:
                data, last, checksum = found
                self._sending[peer] = (index, offset + len(data), checksum)
                return data, offset == 0, last
            # Newer ones have taken its place meanwhile.
            self.cancel(peer)

    def sent_index(self, peer: str) -> int:
        """Index of the snapshot whose last part was handed out; forgets it."""
        return self._sending.pop(peer)[0]

    def cancel(self, peer: str) -> None:
        self._sending.pop(peer, None)

    # ------------------------------------------------------------ receiving

    def receive(self, data: bytes, *, first: bool, last: bool, last_applied: int) -> bool:
        """Take one part from the leader. True when a newer snapshot than our own state is complete and durable."""
        if first:
            self._receiving = bytearray()
        self._receiving += data
        if len(self._receiving) > MAX_SNAPSHOT_BYTES:
            log.error("a snapshot from the leader is larger than %d bytes: dropped", MAX_SNAPSHOT_BYTES)
            self._receiving = bytearray()
            return False
        if not last:
            return False
        received, self._receiving = bytes(self._receiving), bytearray()
        try:
            snapshot = decode(received, self._cluster_id)
        except SnapshotError as error:
            log.warning("a snapshot from the leader %s: dropped", error)
            return False
        if snapshot.index <= last_applied:
            return False
        self._store.save(snapshot.index, received)
        self._store.prune()
        log.info("snapshot of entry %d received", snapshot.index)
        return True
