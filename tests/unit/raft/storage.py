"""Journals on a disk that forgets, and what is left of them after the power fails."""

import random

from coordinator.raft.storage.journal import Entry, Journal
from coordinator.raft.storage.segment import HEADER_SIZE, RECORD_OVERHEAD
from coordinator.raft.storage.snapshot_file import encode
from tests.simulation.disk import SimDisk

CLUSTER = "0123456789abcdef" * 2
NODE = "coordinator-1"
FIRST = "000000000001.segment"
ENTRY_SIZE = RECORD_OVERHEAD + 8
"""Bytes of an entry on the disk, unless it is asked to be larger."""


def new_disk() -> SimDisk:
    """Empty; the same disk in every run."""
    return SimDisk(random.Random(0))


def open_journal(disk: SimDisk, *, segment_size: int = 4_096, node_id: str = NODE, cluster: str = CLUSTER) -> Journal:
    """The journal as a process finds it when it starts."""
    return Journal(disk, cluster, node_id, segment_size)


def entry(index: int, term: int = 1, size: int = 8) -> Entry:
    return (f"{index}/{term}".encode().ljust(size, b"."), index, term)


def snapshot_bytes(before: Entry, last: Entry, state: bytes, cluster: str = CLUSTER) -> bytes:
    """A snapshot file."""
    return bytes(encode(before, last, [state], cluster))


def append(journal: Journal, *entries: Entry) -> None:
    """One batch: added, then made durable together."""
    for added in entries:
        journal.add(*added)
    journal.sync()


def contents(journal: Journal) -> list[Entry]:
    return journal[:]


def after_power_loss(disk: SimDisk, *, segment_size: int = 4_096) -> list[Entry]:
    """What a new process finds after this instant's power failure; the disk itself is left as it is."""
    copy = new_disk()
    for name in disk.names():
        copy.replace(name, disk.durable(name) or b"")
    return contents(open_journal(copy, segment_size=segment_size))


def overwrite(disk: SimDisk, name: str, data: bytes) -> None:
    """Put other bytes where a file was."""
    disk.replace(name, data)


def filled(disk: SimDisk, last: int) -> Journal:
    """Entries 1 to `last`, two a segment."""
    journal = open_journal(disk, segment_size=HEADER_SIZE + 2 * ENTRY_SIZE)
    for index in range(1, last + 1):
        append(journal, entry(index))
    return journal
