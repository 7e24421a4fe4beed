"""The process dies at any call to the disk, then the power fails: nothing that was acknowledged is lost."""

import random
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator.raft.errors import StorageError
from coordinator.raft.storage.journal import Entry, Journal
from coordinator.raft.storage.snapshot_file import SnapshotStore
from tests.simulation.disk import ProcessDied, SimDisk
from tests.unit.raft import repeatable
from tests.unit.raft.storage import CLUSTER, contents, entry, open_journal, snapshot_bytes

SEGMENT = 700


@dataclass
class Model:
    """What a correct log holds: durable entries, and what was done since the last sync."""

    durable: list[Entry] = field(default_factory=list)
    pending: list[Entry | int] = field(default_factory=list)
    """An entry that was added, or the index from which on entries were removed."""
    vote: tuple[int, str | None] = (0, None)
    next_vote: tuple[int, str | None] = (0, None)

    def after(self, steps: int) -> list[Entry]:
        """The log with the first `steps` of the pending ones done."""
        entries = list(self.durable)
        for step in self.pending[:steps]:
            if isinstance(step, int):
                entries = [kept for kept in entries if kept[1] < step]
            else:
                entries.append(step)
        return entries

    def synced(self) -> None:
        self.durable, self.pending = self.after(len(self.pending)), []


class Run:
    """A journal, its model, and a snapshot now and then; `steps` are random things that a node does."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disk = SimDisk(self.rng)
        self.model = Model()
        self.term = 1
        self.snapshot: tuple[Entry, Entry] | None = None
        self.open()

    def open(self) -> None:
        self.journal = open_journal(self.disk, segment_size=SEGMENT)
        found = SnapshotStore(self.disk, CLUSTER).latest()
        if found is not None:
            self.snapshot = (found[0].before, found[0].last)
            self.journal.restart_from(*self.snapshot)
        else:
            self.journal.require_start()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.rng.choice((self.add, self.add, self.sync, self.remove, self.vote, self.compact))()

    def add(self) -> None:
        for _ in range(self.rng.randint(1, 6)):
            index = self.journal[-1][1] + 1 if len(self.journal) else 1
            added = entry(index, self.term, self.rng.choice((4, 40, 900)))
            self.journal.add(*added)
            self.model.pending.append(added)

    def sync(self) -> None:
        self.journal.sync()
        self.model.synced()

    def remove(self) -> None:
        """A new leader's log conflicts with the end of this one."""
        self.term += 1
        floor = self.journal.getRaftCommitIndex()
        if len(self.journal) and self.journal[-1][1] > floor:
            index = self.rng.randint(max(floor + 1, self.journal[0][1] + 1), self.journal[-1][1] + 1)
            if index <= self.journal[-1][1]:
                self.model.pending.append(index)
                self.journal.deleteEntriesFrom(index - self.journal[0][1])

    def vote(self) -> None:
        self.model.next_vote = (self.term, self.rng.choice((None, "coordinator-2")))
        self.journal.setCurrentTerm(*self.model.next_vote)
        self.model.vote = self.model.next_vote

    def compact(self) -> None:
        """Commit, store a snapshot, then trim the log."""
        self.sync()
        if len(self.journal) < 3:
            return
        index = self.rng.randint(self.journal[1][1], self.journal[-1][1])
        self.journal.setRaftCommitIndex(index)
        position = index - self.journal[0][1]
        before, last = self.journal[position - 1], self.journal[position]
        if self.snapshot is None or last[1] > self.snapshot[1][1]:
            SnapshotStore(self.disk, CLUSTER).save(index, snapshot_bytes(before, last, b"state"))
            self.journal.deleteEntriesTo(max(position - 1 - self.rng.randint(0, 3), 0))

    def check_recovery(self) -> None:
        """Start again; the log is the durable one with a part, from the beginning, of what was on its way."""
        self.disk.die_in = 0
        self.open()
        start = self.journal[0][1] if len(self.journal) else 1
        possible = [
            [kept for kept in self.model.after(steps) if kept[1] >= start]
            for steps in range(len(self.model.pending) + 1)
        ]
        found = contents(self.journal)
        assert found in possible
        assert start == 1 or self.snapshot is not None
        vote = (self.journal.getCurrentTerm(), self.journal.getVotedForNodeId())
        assert vote in {self.model.vote, self.model.next_vote}
        self.model = Model(self.model.after(possible.index(found)), [], vote, vote)


@settings(repeatable, max_examples=150)
@given(seed=st.integers(0, 2**32), deaths=st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_nothing_acknowledged_is_lost_wherever_the_process_dies(seed: int, deaths: list[int]) -> None:
    """Random additions, removals, votes, snapshots; death at the n-th call; sectors survive at random; again."""
    run = Run(seed)
    for calls in deaths:
        run.disk.die_in = calls
        with suppress(ProcessDied):
            run.steps(60)
        if run.rng.random() < 0.7:
            run.disk.lose_power()
        run.check_recovery()


@settings(repeatable, max_examples=60)
@given(seed=st.integers(0, 2**32), room=st.integers(1, 20))
def test_a_disk_that_fills_up_loses_nothing_acknowledged(seed: int, room: int) -> None:
    """The journal refuses at the first write that finds no room; with room again, a restart finds everything."""
    run = Run(seed)
    run.steps(room)
    run.disk.full = True
    with pytest.raises(StorageError):
        run.steps(200)
    run.disk.full = False
    run.disk.lose_power()
    run.check_recovery()


class _Forgetful(Journal):
    """Says that it has synced without having done so: what these tests must notice."""

    def sync(self) -> None:
        """Nothing."""


def test_these_tests_notice_a_journal_that_does_not_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a sync that does nothing, acknowledged entries are missed."""
    monkeypatch.setattr("tests.unit.raft.storage.Journal", _Forgetful)
    run = Run(1)
    run.add()
    run.sync()
    run.disk.lose_power()
    with pytest.raises(AssertionError):
        run.check_recovery()
