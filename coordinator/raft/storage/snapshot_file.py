"""Snapshot files: the state as of one log entry, checksummed, replaced atomically, the last two kept.

A snapshot carries the two log entries that it ends with, because the engine's log always begins with them: the
entry before the last one applied, and that one.
"""

import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from coordinator.raft.errors import REJOIN, StorageError
from coordinator.raft.storage.disk import Disk
from coordinator.raft.storage.journal import Entry

_MAGIC = b"ZKPSNAP\x00"
_VERSION = 1
_HEADER = struct.Struct("<8sH16sQQIQQIQ")
_CRC = struct.Struct("<I")
_SUFFIX = ".snapshot"
_KEPT = 2
_PIECE = 1 << 20
Buffer = bytes | bytearray | memoryview
GiveWay = Callable[[], None]
"""Called by a thread after at most a millisecond or so of work, to leave the interpreter to others."""
_SOUND = google_crc32c.value(_CRC.pack(google_crc32c.value(b"")))
"""The checksum of anything that is followed by its own checksum."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`last` is the last entry whose effect is in `state`, `before` the entry before it."""

    before: Entry
    last: Entry
    state: bytes | memoryview

    @property
    def index(self) -> int:
        """Return the index of the last entry in the snapshot."""
        return self.last[1]


class SnapshotError(Exception):
    """The bytes are no sound snapshot of this cluster."""


def busy_alone() -> None:
    """A `GiveWay` for when no other thread waits for the interpreter."""


def encode(
    before: Entry,
    last: Entry,
    state: Iterable[bytes],
    cluster_id: str,
    give_way: GiveWay = busy_alone,
) -> bytearray:
    """A snapshot file from the parts of a state. `give_way` is called after each of them, and in between.

    Other threads wait while many bytes are copied at once, or their checksum is taken: here it is never all of them.
    """
    data = bytearray(_HEADER.size) + before[0] + last[0]
    begin = len(data)
    for part in state:
        data += part
        give_way()
    _HEADER.pack_into(
        data,
        0,
        _MAGIC,
        _VERSION,
        bytes.fromhex(cluster_id),
        before[1],
        before[2],
        len(before[0]),
        last[1],
        last[2],
        len(last[0]),
        len(data) - begin,
    )
    data += _CRC.pack(_checksum(data, give_way))
    return data


def decode(data: Buffer, cluster_id: str, give_way: GiveWay = busy_alone) -> Snapshot:
    """Raises SnapshotError; nothing is read from bytes whose checksum is wrong.

    The state is not copied. `give_way` is called between the pieces whose checksum is taken.
    """
    if len(data) < _HEADER.size + _CRC.size or data[:8] != _MAGIC:
        raise SnapshotError("is not a snapshot")
    view = memoryview(data).toreadonly()
    if _checksum(view, give_way) != _SOUND:
        raise SnapshotError("is damaged")
    body = view[: -_CRC.size]
    _, version, cluster, index0, term0, size0, index1, term1, size1, state_size = _HEADER.unpack_from(body)
    if version != _VERSION:
        raise SnapshotError(f"has format version {version}; this program reads version {_VERSION}")
    if cluster.hex() != cluster_id:
        raise SnapshotError(f"belongs to cluster {cluster.hex()}, this node to {cluster_id}")
    first, second = _HEADER.size + size0, _HEADER.size + size0 + size1
    if second + state_size != len(body):
        raise SnapshotError("is damaged")
    return Snapshot(
        before=(bytes(body[_HEADER.size : first]), index0, term0),
        last=(bytes(body[first:second]), index1, term1),
        state=body[second:],
    )


def _checksum(data: Buffer, give_way: GiveWay) -> int:
    checksum = 0
    for offset in range(0, len(data), _PIECE):
        checksum = google_crc32c.extend(checksum, bytes(data[offset : offset + _PIECE]))
        give_way()
    return checksum


@dataclass(frozen=True, slots=True)
class SnapshotFile:
    """size: in bytes; stored_at: seconds since the Unix epoch."""

    size: int
    stored_at: float


def snapshot_file(directory: Path) -> SnapshotFile | None:
    """The newest snapshot in a node's directory, without reading it; None when there is none."""
    try:
        newest = max((entry for entry in os.scandir(directory) if entry.name.endswith(_SUFFIX)), key=_name)
        found = newest.stat()
    except (OSError, ValueError):  # none; or it was replaced by a newer one in this very moment
        return None
    return SnapshotFile(found.st_size, found.st_mtime)


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _file_name(index: int) -> str:
    return f"{index:020d}{_SUFFIX}"


class SnapshotStore:
    """The snapshots of one node. `save` may run in another thread than the rest."""

    def __init__(self, disk: Disk, cluster_id: str) -> None:
        self._disk = disk
        self._cluster_id = cluster_id

    def latest(self) -> tuple[Snapshot, bytes] | None:
        """The newest snapshot and its bytes, or None. Raises StorageError.

        A damaged newest snapshot is refused even though an older one is there: the log before it is gone.
        """
        names = self._names()
        if not names:
            return None
        data = self._disk.read(names[-1]) or b""
        try:
            return decode(data, self._cluster_id), data
        except SnapshotError as error:
            raise StorageError(f"snapshot {names[-1]} {error}: {REJOIN}") from error

    def newest(self) -> int | None:
        """The index of the newest snapshot, without reading it; None when there is none."""
        names = self._names()
        return int(names[-1].removesuffix(_SUFFIX)) if names else None

    def read_part(self, index: int, offset: int, size: int, checksum: int) -> tuple[bytes, bool, int] | None:
        """`size` bytes of that snapshot, whether they are the last, and the checksum to give with the next part.

        None when it is not there any more. Raises StorageError, for a damaged one when its last part is reached.
        """
        name = _file_name(index)
        try:
            data = self._disk.read_part(name, offset, size + 1)
        except OSError as error:
            raise StorageError(f"snapshot {index}: {error}: replace the disk") from error
        if data is None:
            return None
        last, part = len(data) <= size, data[:size]
        checksum = google_crc32c.extend(checksum, part)
        if last and checksum != _SOUND:
            raise StorageError(f"snapshot {name} is damaged: {REJOIN}")
        return part, last, checksum

    def save(self, index: int, data: bytes | bytearray) -> None:
        """Make the snapshot durable under its index. Raises StorageError."""
        try:
            self._disk.replace(_file_name(index), data)
        except OSError as error:
            raise StorageError(f"snapshot {index}: {error}: free space or replace the disk") from error

    def prune(self) -> None:
        """Remove all but the latest two. Raises StorageError."""
        try:
            for name in self._names()[:-_KEPT]:
                self._disk.remove(name)
        except OSError as error:
            raise StorageError(f"old snapshots: {error}: replace the disk") from error

    def _names(self) -> list[str]:
        return [name for name in self._disk.names() if name.endswith(_SUFFIX)]
