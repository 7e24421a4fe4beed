"""Taking, sending and receiving snapshots while the node continues to work. No clock, no sockets."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from coordinator.raft.errors import StorageError
from coordinator.raft.storage.disk import Disk
from coordinator.raft.storage.journal import Entry, Journal
from coordinator.raft.storage.snapshot_file import (
    GiveWay,
    Snapshot,
    SnapshotError,
    SnapshotStore,
    busy_alone,
    decode,
    encode,
)

log = logging.getLogger("zkp.raft")

CHUNK_BYTES = 256 << 10
MAX_SNAPSHOT_BYTES = 2 << 30
TRAILING_ENTRIES = 1_000
"""Kept before a snapshot's end, so that a follower which lags a little needs no snapshot; fewer if they are large."""


Swap = Callable[[], Iterator[None]]
"""swap(): puts a loaded state in the place of the present one, in one step. What it returns frees the old state as it
is iterated, a piece of a millisecond at a time; any thread may do that."""


class StateMachine(Protocol):
    """What is replicated. All but `load` is called on the node's own thread; what they return is used in another."""

    def apply(self, entry: bytes, index: int) -> object:
        """Carry out one log entry. Must not raise: every node would stop at the same entry.

        But UpgradeRequired, when only this node does not understand it.
        """

    def capture(self) -> Iterator[bytes]:
        """Freeze the state as it is now, quickly. Its parts are encoded as they are asked for, a millisecond each."""

    def load(self, state: bytes | memoryview, give_way: GiveWay) -> Swap:
        """Decode a state, in any thread, and change nothing yet. Raises ValueError when the bytes do not decode."""


Work = Callable[[GiveWay], Any]
"""work(give_way): calls `give_way` at least every millisecond or so that it keeps the interpreter busy."""

Offload = Callable[[Work, Callable[[Any], None]], None]
"""offload(work, done): run `work` away from the node's thread, then `done(result)` on it, where what `work` raises is
raised, too."""


@dataclass(frozen=True, slots=True)
class _Received:
    """A snapshot from the leader that is durable and decoded, and not in effect yet."""

    before: Entry
    last: Entry
    swap: Swap


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
        on_received: Callable[[int], None],
    ) -> None:
        """on_received(index): a snapshot from the leader is durable and decoded; `restore` puts it into effect."""
        self._store = SnapshotStore(disk, cluster_id)
        self._cluster_id = cluster_id
        self._journal = journal
        self._machine = machine
        self._offload = offload
        self._trailing_entries = trailing_entries
        self._taking = False
        self._sending: dict[str, tuple[int, int, int]] = {}
        """Peer → (snapshot index, offset of the next part, checksum of what went before it)."""
        self._on_received = on_received
        self._receiving: bytearray | None = None
        """The parts so far; None before the first part."""
        self.installing = False
        """True from the last part on until the snapshot is in effect, or dropped."""
        self._received: _Received | None = None
        self.index = 0
        """Last entry of the latest durable snapshot."""

    # ------------------------------------------------------------ making

    def take_when_due(self, last_applied: int, max_entries: int, max_bytes: int, *, behind: bool = False) -> None:
        """Begin a snapshot when the log behind the last one has grown past either bound.

        behind: entries wait to be applied. They count as bytes of the log, and a snapshot would not remove them.
        """
        applied = last_applied - max(self.index, 1)
        if self._taking or self.installing or not applied:
            return
        if applied < max_entries and (behind or self._journal.payload_bytes < max_bytes):
            return
        # The entries that are kept must leave space: otherwise the next entry would make another snapshot due.
        self._take(last_applied, trailing_bytes=max_bytes // 4)

    def _take(self, index: int, trailing_bytes: int) -> None:
        position = index - self._journal[0][1]
        if position < 1:
            return
        before, last = self._journal[position - 1], self._journal[position]
        state = self._machine.capture()
        self._taking = True

        def work(give_way: GiveWay) -> int:
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
        """Put the latest snapshot into effect: the one just received, else that on the disk. Its last two entries.

        Raises StorageError.
        """
        found, self._received = self._received, None
        if found is not None:
            old_state = found.swap()
            self._offload(lambda give_way: _use_up(old_state, give_way), lambda _: None)
        else:
            stored = self._store.latest()
            if stored is None:
                return None
            found = self._load(stored[0], busy_alone)
            found.swap()
        self.index = found.last[1]
        return found.before, found.last

    def _load(self, snapshot: Snapshot, give_way: GiveWay) -> _Received:
        try:
            swap = self._machine.load(snapshot.state, give_way)
        except ValueError as error:
            raise StorageError(f"snapshot {snapshot.index} does not load: {error}") from error
        return _Received(snapshot.before, snapshot.last, swap)

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
        """Return and clear the index of the snapshot whose last part was sent."""
        return self._sending.pop(peer)[0]

    def cancel(self, peer: str) -> None:
        """Stop sending a snapshot to a peer."""
        self._sending.pop(peer, None)

    # ------------------------------------------------------------ receiving

    def receive(self, data: bytes, *, first: bool, last: bool, last_applied: int) -> None:
        """Take one part from the leader. After the last one, `on_received` follows if the snapshot is of use."""
        if self.installing:
            return  # The leader continues behind what is acknowledged, or sends its own from the first part on.
        if first:
            self._receiving = bytearray()
        if self._receiving is None:
            return
        self._receiving += data
        if len(self._receiving) > MAX_SNAPSHOT_BYTES:
            log.error("a snapshot from the leader is larger than %d bytes: dropped", MAX_SNAPSHOT_BYTES)
            self._receiving = None
        elif last:
            received, self._receiving = self._receiving, None
            self.installing = True
            self._install(received, last_applied)

    def _install(self, received: bytearray, last_applied: int) -> None:
        """Check, decode and store it in another thread: for a large one this takes many election timeouts."""
        self._offload(lambda give_way: self._prepare(received, last_applied, give_way), self._installed)

    def _prepare(self, received: bytearray, last_applied: int, give_way: GiveWay) -> _Received | None:
        """Run in another thread. None when the snapshot is damaged or of no use; raises StorageError."""
        try:
            snapshot = decode(received, self._cluster_id, give_way)
        except SnapshotError as error:
            log.warning("a snapshot from the leader %s: dropped", error)
            return None
        if snapshot.index <= last_applied:
            return None
        found = self._load(snapshot, give_way)
        self._store.save(snapshot.index, received)
        return found

    def _installed(self, found: _Received | None) -> None:
        self.installing = False
        if found is None:
            return
        self._store.prune()
        log.info("snapshot of entry %d received", found.last[1])
        self._received = found
        self._on_received(found.last[1])
        self._received = None


def _use_up(pieces: Iterator[None], give_way: GiveWay) -> None:
    for _ in pieces:
        give_way()
