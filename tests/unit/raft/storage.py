"""Journals on a disk that forgets, and what is left of them after the power fails."""

import random

from coordinator.raft.journal import Entry, Journal
from tests.simulation.disk import SimDisk, SimFile

CLUSTER = "0123456789abcdef" * 2
NODE = "coordinator-1"


def new_disk() -> SimDisk:
    """Empty; the same disk in every run."""
    return SimDisk(random.Random(0))


def open_journal(disk: SimDisk, *, segment_size: int = 4_096, node_id: str = NODE, cluster: str = CLUSTER) -> Journal:
    """The journal as a process finds it when it starts."""
    return Journal(disk, cluster, node_id, segment_size)


def entry(index: int, term: int = 1, size: int = 8) -> Entry:
    return (f"{index}/{term}".encode().ljust(size, b"."), index, term)


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


class SyncCount:
    """Counts writes and syncs of every file: patched over SimFile by the `syncs` fixture."""

    def __init__(self) -> None:
        self.writes = 0
        self.syncs = 0

    def write_at(self, file: SimFile, data: bytes, offset: int) -> None:
        self.writes += 1
        _WRITE(file, data, offset)

    def datasync(self, file: SimFile) -> None:
        self.syncs += 1
        _SYNC(file)


_WRITE, _SYNC = SimFile.write_at, SimFile.datasync
