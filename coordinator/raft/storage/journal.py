"""The durable Raft log: append-only segments, one write and one fdatasync a batch.

The engine adds entries as messages arrive; nothing is written until `sync`, which the shell calls before any message
that refers to the entries leaves the node, and before anything is committed. A segment is never rewritten: removing
entries is itself a record. Term and vote live in a small file of their own, replaced atomically before they are
spoken. After the first I/O error every further call fails: the process must end.
"""

import bisect
import logging
from typing import overload

from coordinator.raft.errors import REJOIN, StorageError
from coordinator.raft.storage.checksummed_json import ChecksumError, dump, load
from coordinator.raft.storage.disk import Disk, File
from coordinator.raft.storage.segment import (
    HEADER_SIZE,
    RecordKind,
    SegmentError,
    SegmentRecord,
    Tail,
    decode_header,
    encode_header,
    encode_record,
    read_records,
)

log = logging.getLogger("zkp.raft")

Entry = tuple[bytes, int, int]
"""(command, index, term): the engine's own shape."""

_SUFFIX = ".segment"
_AHEAD = 256 << 10
"""Bytes that are written as zeros ahead of the records."""
_VOTE = "vote"


class Journal:
    """The log of one node of one cluster. Indexed like the engine's own journals: by position, not by index.

    cluster_id: 32 hexadecimal digits; node_id: the name in the node's certificate. A directory that was written by
    another cluster or another node is refused with StorageError, and so is a damaged one.
    """

    def __init__(self, disk: Disk, cluster_id: str, node_id: str, segment_size: int) -> None:
        self._disk = disk
        self._cluster_id = cluster_id
        self._node_id = node_id
        self._segment_size = segment_size
        self._entries: list[Entry] = []
        self._pending: list[SegmentRecord] = []
        """Records that are in memory only."""
        self._failed = False
        self._segments: list[tuple[str, int]] = []
        """(file name, highest entry index in it), oldest first."""
        self._file: File | None = None
        self._offset = 0
        self._synced = 0
        self._prepared = 0
        self._commit_index = 1
        self.payload_bytes = 0
        """Size of the commands in memory."""
        with _fatal(self):
            self._term, self._voted_for = self._read_vote()
            self._recover()

    # ------------------------------------------------------------ what the engine calls

    def add(self, command: bytes, idx: int, term: int) -> None:
        """Append an entry; it is durable after the next sync."""
        if self._entries and idx != self._entries[-1][1] + 1:
            raise StorageError(f"journal: entry {idx} does not follow entry {self._entries[-1][1]}")
        self._entries.append((command, idx, term))
        self.payload_bytes += len(command)
        self._write(RecordKind.ENTRY, idx, term, command)

    def clear(self) -> None:
        """Remove all entries."""
        self._entries = []
        self.payload_bytes = 0
        self._write(RecordKind.RESET, 0, 0, b"")

    def deleteEntriesFrom(self, entryFrom: int) -> None:  # noqa: N802, N803 - the engine's names
        """Remove the entries from position `entryFrom` on: they conflict with the leader's."""
        first_index = self._entries[entryFrom][1]
        if first_index <= self._commit_index:
            # Committed entries never conflict: something is wrong beyond repair, and going on could lose tasks.
            raise StorageError(
                f"journal: refusing to remove entry {first_index}, committed up to {self._commit_index}"
            )
        self._forget(entryFrom, len(self._entries))
        self._write(RecordKind.TRUNCATE, first_index, 0, b"")

    def deleteEntriesTo(self, entryTo: int) -> None:  # noqa: N802, N803 - the engine's names
        """Forget the entries before position `entryTo`: a durable snapshot holds what they did."""
        self._forget(0, entryTo)
        first_index = self._entries[0][1]
        while len(self._segments) > 1 and self._segments[0][1] < first_index:
            self._disk.remove(self._segments.pop(0)[0])

    @overload
    def __getitem__(self, item: int) -> Entry: ...
    @overload
    def __getitem__(self, item: slice) -> list[Entry]: ...
    def __getitem__(self, item: int | slice) -> Entry | list[Entry]:
        return self._entries[item]

    def __len__(self) -> int:
        return len(self._entries)

    def setCurrentTerm(self, term: int, votedForNodeId: str | None) -> None:  # noqa: N802, N803
        """Make term and vote durable before they are sent."""
        if (term, votedForNodeId) == (self._term, self._voted_for):
            return
        self._guard()
        with _fatal(self):
            self._disk.replace(_VOTE, dump({"term": term, "voted_for": votedForNodeId}))
        self._term, self._voted_for = term, votedForNodeId

    def getCurrentTerm(self) -> int:  # noqa: N802
        """Return the stored term."""
        return self._term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        """Return the node that got the vote of the stored term; None if none did."""
        return self._voted_for

    def setRaftCommitIndex(self, raftCommitIndex: int) -> None:  # noqa: N802, N803
        """The engine is about to apply up to here: nothing may be applied that is not durable.

        The index itself is not stored: after a restart it is learnt again from the leader.
        """
        self.sync()
        self._commit_index = max(self._commit_index, min(raftCommitIndex, self._entries[-1][1]))

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        """Return the commit index, which never lies beyond the log."""
        return self._commit_index

    def onOneSecondTimer(self) -> None:  # noqa: N802
        """Nothing is left for later here."""

    def _destroy(self) -> None:
        self.close()

    # ------------------------------------------------------------ what the shell calls

    def sync(self) -> None:
        """Make everything added so far durable: one write, one fdatasync. Raises StorageError."""
        if not self._pending:
            return
        self._guard()
        with _fatal(self):
            batch = self._encode_pending()
            if self._file is None or self._offset + len(batch) > self._segment_size:
                self._file = self._roll(len(batch))
                batch = self._encode_pending()
            self._file.write_at(batch, self._offset)
            self._prepare(self._file, self._offset + len(batch))
            self._file.datasync()
        self._offset += len(batch)
        self._synced = self._offset
        name, highest = self._segments[-1]
        self._segments[-1] = (name, max(highest, *(record.index for record in self._pending)))
        self._pending.clear()

    def require_start(self) -> None:
        """Without a snapshot the log must begin with the first entry. Raises StorageError."""
        if self._entries and (first := self._entries[0][1]) != 1:
            raise StorageError(f"journal: entries before {first} are missing and no snapshot holds them: {REJOIN}")

    def restart_from(self, before: Entry, last: Entry) -> None:
        """Begin at a snapshot: `last` is the entry that it includes last, `before` the one before that.

        Entries behind them stay when the log holds both; otherwise the log is replaced by the two. Raises
        StorageError when the log begins behind the snapshot: entries between the two are missing.
        """
        if self._entries and (first := self._entries[0][1]) > last[1]:
            raise StorageError(
                f"journal: entries {last[1] + 1} to {first - 1} are missing behind the snapshot: {REJOIN}"
            )
        position = before[1] - self._entries[0][1] if self._entries else -1
        if 0 <= position < len(self._entries) - 1 and self._entries[position : position + 2] == [
            before,
            last,
        ]:
            self.deleteEntriesTo(position)
        else:
            self.clear()
            self.add(*before)
            self.add(*last)
            self.sync()
            for name, _ in self._segments[:-1]:
                self._disk.remove(name)
            del self._segments[:-1]
        self._commit_index = max(self._commit_index, last[1])

    def begin_of_term(self, index: int, earliest: int) -> int:
        """The first entry of the term of entry `index`, but `earliest` if the term begins before it."""
        first = self._entries[0][1]
        term = self._entries[index - first][2]
        # Terms never decrease along the log.
        before = range(earliest - first, index - first)
        found = bisect.bisect_left(before, term, key=lambda position: self._entries[position][2])
        return min(index, earliest + found)

    def close(self) -> None:
        """Close the file. What was not synced is not written: it was never acknowledged."""
        if self._file is not None:
            self._file.close()
            self._file = None

    # ------------------------------------------------------------ writing

    def _forget(self, start: int, end: int) -> None:
        """Drop the entries from position `start` up to `end` from memory."""
        self.payload_bytes -= sum(len(command) for command, _, _ in self._entries[start:end])
        del self._entries[start:end]

    def _guard(self) -> None:
        if self._failed:
            raise StorageError("journal: an earlier write failed; the process must end")

    def _write(self, kind: RecordKind, index: int, term: int, payload: bytes) -> None:
        self._guard()
        self._pending.append(SegmentRecord(kind, index, term, payload))

    def _encode_pending(self) -> bytes:
        return b"".join(
            encode_record(record.kind, record.index, record.term, record.payload, self._synced)
            for record in self._pending
        )

    def _prepare(self, file: File, end: int) -> None:
        """Write zeros behind `end`, once for many syncs to come.

        Space that was reserved and never written costs each fdatasync a change of the file system's own records, and
        that is about half of its time.
        """
        if end > self._prepared:
            self._prepared = min(end + _AHEAD, max(end, self._segment_size))
            if self._prepared > end:
                file.write_at(bytes(self._prepared - end), end)

    def _roll(self, batch_size: int) -> File:
        """Start the next segment, large enough for the batch, its header durable before any record."""
        if self._file is not None:
            self._file.close()
        sequence = _sequence(self._segments[-1][0]) + 1 if self._segments else 1
        name = f"{sequence:012d}{_SUFFIX}"
        file = self._disk.create(name, max(self._segment_size, HEADER_SIZE + batch_size))
        file.write_at(encode_header(self._cluster_id, self._node_id, sequence), 0)
        file.datasync()
        self._segments.append((name, 0))
        self._offset = self._synced = self._prepared = HEADER_SIZE
        return file

    # ------------------------------------------------------------ recovery

    def _read_vote(self) -> tuple[int, str | None]:
        data = self._disk.read(_VOTE)
        if data is None:
            return 0, None
        try:
            vote = load(data)
            return int(vote["term"]), vote["voted_for"]
        except (ChecksumError, KeyError) as error:
            raise StorageError(f"file {_VOTE} is damaged: {REJOIN}") from error

    def _recover(self) -> None:
        names = self._segment_names()
        if names and not (self._disk.read(names[-1]) or b"")[:HEADER_SIZE].strip(b"\x00"):
            # A crash between making the file and its header's reaching the disk: no record was in it.
            log.warning("removed journal segment %s: it was never written", names[-1])
            self._disk.remove(names.pop())
        for name in names:
            self._replay(name, self._disk.read(name) or b"", last=name == names[-1])
        if self._segments:
            self._file = self._disk.open(self._segments[-1][0])
            # What a killed process had written may be in the page cache only, and has just been believed.
            self._file.datasync()

    def _segment_names(self) -> list[str]:
        """The unbroken run of segments up to the newest; older ones were removed once and came back."""
        names = [name for name in self._disk.names() if name.endswith(_SUFFIX)]
        run = names[-1:]
        for name in reversed(names[:-1]):
            if _sequence(name) != _sequence(run[0]) - 1:
                break
            run.insert(0, name)
        for name in names[: len(names) - len(run)]:
            self._disk.remove(name)
        return run

    def _replay(self, name: str, data: bytes, *, last: bool) -> None:
        try:
            self._check_owner(name, data)
            for record in read_records(data):
                if isinstance(record, Tail):
                    self._end_of_segment(name, record, len(data), last=last)
                else:
                    self._redo(name, record)
        except SegmentError as error:
            raise StorageError(f"journal segment {name} {error}: {REJOIN}") from error

    def _check_owner(self, name: str, data: bytes) -> None:
        header = decode_header(data)
        if header.cluster_id != self._cluster_id:
            raise SegmentError(f"belongs to cluster {header.cluster_id}, this node to {self._cluster_id}")
        if header.node_id != self._node_id:
            raise SegmentError(f"belongs to node {header.node_id}, this is {self._node_id}")
        self._segments.append((name, 0))

    def _redo(self, name: str, record: SegmentRecord) -> None:
        if record.kind is RecordKind.RESET:
            self._forget(0, len(self._entries))
        elif record.kind is RecordKind.TRUNCATE:
            if self._entries:
                self._forget(max(0, record.index - self._entries[0][1]), len(self._entries))
        else:
            if self._entries and record.index != self._entries[-1][1] + 1:
                raise SegmentError(f"has entry {record.index} after entry {self._entries[-1][1]}")
            self._entries.append((record.payload, record.index, record.term))
            self.payload_bytes += len(record.payload)
            self._segments[-1] = (name, max(self._segments[-1][1], record.index))

    def _end_of_segment(self, name: str, tail: Tail, size: int, *, last: bool) -> None:
        if tail.torn and not last:
            raise SegmentError(f"is damaged at byte {tail.offset}, before entries that were acknowledged")
        if not last:
            return
        if tail.torn:
            log.warning("cut a torn tail off journal segment %s at byte %d", name, tail.offset)
            file = self._disk.open(name)
            file.truncate(tail.offset)
            file.truncate(size)
            file.datasync()
            file.close()
        self._offset = self._synced = tail.offset


def _sequence(name: str) -> int:
    return int(name.removesuffix(_SUFFIX))


class _fatal:  # noqa: N801 - reads as a statement
    """Any OSError inside poisons the journal and becomes a StorageError."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            self._journal._failed = True
            raise StorageError(f"journal: {error}: free space or replace the disk, then start again") from error
