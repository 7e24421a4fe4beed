"""What the disks of a cluster hold, whatever its nodes believe: the promises of Raft itself, looked at from outside.

An entry that anybody applies is on the disks of a majority; a leader believes of a peer's log only what is so; and a
process finds after its start what it had made durable, and nothing that it had not written.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from coordinator.raft.storage.journal import Entry, Journal
from coordinator.raft.storage.segment import RecordKind
from tests.simulation.disk import SimDisk


class Log:
    """The journal of one node's disk, also while its process is dead or after the disk was wiped."""

    def __init__(self, disk: SimDisk) -> None:
        self._disk = disk
        self._journal: Journal | None = None
        self._forgotten: Journal | None = None
        """What was on the disk before it was wiped, while the node that has lost it does not count."""

    def starts(self, journal: Journal, snapshot: int, broken: Callable[[str], None]) -> None:
        """The process has read its journal, and its snapshot up to an entry."""
        before, self._journal = self._journal, journal
        if before is None:
            return
        found = {index: term for _, index, term in journal[:]}
        if any(record.kind is not RecordKind.ENTRY for record in before._pending):
            return  # whether the removal of entries had reached the disk is left open
        written = {index: term for _, index, term in before[:]}
        if snapshot in written and found.get(snapshot) != written[snapshot]:
            return  # a snapshot of another history came last: with it, what the log says behind it is void
        first = max(journal[0][1], before[0][1], snapshot + 1)
        lost = [entry for entry in _durable(before) if entry[1] >= first and found.get(entry[1]) != entry[2]]
        if lost:
            broken(f"has lost {len(lost)} entries, from {lost[0][1]} on, that were on its disk")
        strange = [index for index, term in found.items() if index >= first and written.get(index) != term]
        if strange:
            broken(f"finds {len(strange)} entries, from {strange[0]} on, that it had not written when it ended")

    def wiped(self) -> None:
        self._forgotten, self._journal = self._journal, None

    def counts(self) -> bool:
        """Whether the node votes, and what it holds counts."""
        return b'"voter"' in (self._disk.durable("membership") or b"")

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry is on the disk; or was, when it was acknowledged before the disk was lost."""
        journal = self._journal if self.counts() else self._forgotten
        if journal is None or not len(journal):
            return False
        first = journal[0][1]
        if index < first:
            return True  # in a snapshot
        entries = _durable(journal)
        return index - first < len(entries) and entries[index - first][2] == term


def _durable(journal: Journal) -> Sequence[Entry]:
    """The entries that were synced. Those to be removed at the next sync are gone already."""
    unsynced = sum(record.kind is RecordKind.ENTRY for record in journal._pending)
    return journal[: len(journal) - unsynced]


def on_majority(logs: Iterable[Log], index: int, term: int) -> bool:
    """Whether so many hold the entry that nobody can be elected without it."""
    held = [log.holds(index, term) for log in logs]
    return sum(held) > len(held) // 2


class Leading(Protocol):
    """A leader's core, as far as it is asked here."""

    raftCurrentTerm: int  # noqa: N815 - the engine's name

    def match_index(self, peer: str) -> int: ...


def misjudged(core: Leading, journal: Journal, peers: Mapping[str, tuple[int, Log]]) -> str:
    """What a leader believes of a peer of its own term that is not so, in words; empty when there is nothing.

    peers: name → its term, its log. A peer of a later term may have replaced what it acknowledged in this one.
    """
    for peer, (term, log) in peers.items():
        index = core.match_index(peer)
        if term != core.raftCurrentTerm or not log.counts() or index < journal[0][1]:
            continue
        if index > journal[-1][1]:
            return f"believes that {peer} has entry {index}, which does not exist"
        if not log.holds(index, journal[index - journal[0][1]][2]):
            return f"believes that {peer} has its entry {index}"
    return ""
