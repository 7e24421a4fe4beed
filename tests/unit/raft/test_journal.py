"""The durable log: what was synced is there after any loss of power, and nothing else is made up."""

from dataclasses import dataclass, replace

import pytest

from coordinator.raft.errors import StorageError
from tests.simulation.disk import SimDisk, SimFile
from tests.unit.raft.storage import (
    FIRST,
    after_power_loss,
    append,
    contents,
    entry,
    filled,
    new_disk,
    open_journal,
    overwrite,
)


@pytest.fixture
def disk() -> SimDisk:
    return new_disk()


@dataclass
class Counts:
    writes: int = 0
    syncs: int = 0


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counts:
    """How often files were written and synced."""
    counted = Counts()
    write_at, datasync = SimFile.write_at, SimFile.datasync

    def counting_write(file: SimFile, data: bytes, offset: int) -> None:
        counted.writes += 1
        write_at(file, data, offset)

    def counting_sync(file: SimFile) -> None:
        counted.syncs += 1
        datasync(file)

    monkeypatch.setattr(SimFile, "write_at", counting_write)
    monkeypatch.setattr(SimFile, "datasync", counting_sync)
    return counted


# ------------------------------------------------------------ writing and reading


def test_entries_and_vote_are_there_after_a_restart(disk: SimDisk) -> None:
    """In order, with their terms; so are the current term and who got the vote."""
    journal = open_journal(disk)
    append(journal, entry(1), entry(2))
    append(journal, entry(3, term=2))
    journal.setCurrentTerm(2, "coordinator-3")
    journal.close()
    again = open_journal(disk)
    assert contents(again) == [entry(1), entry(2), entry(3, term=2)]
    assert (again.getCurrentTerm(), again.getVotedForNodeId()) == (2, "coordinator-3")


def test_a_new_journal_is_empty(disk: SimDisk) -> None:
    """No entries, term 0, no vote, and nothing on the disk yet."""
    journal = open_journal(disk)
    assert (len(journal), journal.getCurrentTerm(), journal.getVotedForNodeId()) == (0, 0, None)
    assert disk.names() == []


def test_a_batch_costs_one_write_and_one_sync(disk: SimDisk, counts: Counts) -> None:
    """However many entries are in it; without any, nothing is written."""
    journal = open_journal(disk)
    append(journal, entry(1))
    before = replace(counts)
    append(journal, *(entry(index) for index in range(2, 40)))
    assert counts == Counts(before.writes + 1, before.syncs + 1)
    journal.sync()
    assert counts == Counts(before.writes + 1, before.syncs + 1)


def test_nothing_is_durable_before_sync(disk: SimDisk) -> None:
    """Entries that were only added are gone after a loss of power, and are there once sync has returned."""
    journal = open_journal(disk)
    append(journal, entry(1))
    journal.add(*entry(2))
    assert after_power_loss(disk) == [entry(1)]
    journal.sync()
    assert after_power_loss(disk) == [entry(1), entry(2)]


def test_nothing_is_applied_that_is_not_durable(disk: SimDisk) -> None:
    """The engine tells the commit index before it applies: that syncs, which covers a quorum of one too."""
    journal = open_journal(disk)
    journal.add(*entry(1))
    journal.setRaftCommitIndex(1)
    assert after_power_loss(disk) == [entry(1)]


def test_the_vote_is_durable_when_it_is_cast(disk: SimDisk) -> None:
    """Before the call returns; and the same vote again costs nothing."""
    journal = open_journal(disk)
    journal.setCurrentTerm(5, "coordinator-2")
    stored = disk.durable("vote")
    assert stored is not None
    assert b'"term": 5' in stored
    disk.die_in = 1
    journal.setCurrentTerm(5, "coordinator-2")


def test_the_commit_index_never_lies_beyond_the_log(disk: SimDisk) -> None:
    """Whatever a leader says is committed, this node can only know of what it has."""
    journal = open_journal(disk)
    append(journal, entry(1), entry(2))
    journal.setRaftCommitIndex(9)
    assert journal.getRaftCommitIndex() == 2
    journal.setRaftCommitIndex(1)
    assert journal.getRaftCommitIndex() == 2


def test_an_entry_that_does_not_follow_is_refused(disk: SimDisk) -> None:
    """Indexes have no gaps."""
    journal = open_journal(disk)
    append(journal, entry(1))
    with pytest.raises(StorageError, match="entry 3 does not follow entry 1"):
        journal.add(*entry(3))


# ------------------------------------------------------------ removing


def test_removed_entries_stay_removed(disk: SimDisk) -> None:
    """Also when others have taken their places, after any number of restarts."""
    journal = open_journal(disk)
    append(journal, entry(1), entry(2), entry(3))
    journal.deleteEntriesFrom(1)
    append(journal, entry(2, term=2))
    journal.deleteEntriesFrom(1)
    append(journal, entry(2, term=3), entry(3, term=3))
    assert contents(journal) == after_power_loss(disk) == [entry(1), entry(2, term=3), entry(3, term=3)]


def test_a_removal_alone_is_durable_after_sync(disk: SimDisk) -> None:
    """It is a record like any other."""
    journal = open_journal(disk)
    append(journal, entry(1), entry(2))
    journal.deleteEntriesFrom(1)
    assert after_power_loss(disk) == [entry(1), entry(2)]
    journal.sync()
    assert after_power_loss(disk) == [entry(1)]


def test_committed_entries_are_never_removed(disk: SimDisk) -> None:
    """A conflict with a committed entry cannot be: going on could lose tasks."""
    journal = open_journal(disk)
    append(journal, entry(1), entry(2), entry(3))
    journal.setRaftCommitIndex(2)
    for position in (0, 1):
        with pytest.raises(StorageError, match="committed up to 2"):
            journal.deleteEntriesFrom(position)
    journal.deleteEntriesFrom(2)
    assert contents(journal) == [entry(1), entry(2)]


def test_a_reset_voids_everything_before_it(disk: SimDisk) -> None:
    """And the log may begin anywhere afterwards."""
    journal = open_journal(disk)
    append(journal, entry(1), entry(2))
    journal.clear()
    append(journal, entry(70), entry(71))
    assert contents(journal) == after_power_loss(disk) == [entry(70), entry(71)]


# ------------------------------------------------------------ segments


def test_a_full_segment_is_followed_by_the_next(disk: SimDisk) -> None:
    """Numbered in order; no record is split; nothing is lost between them."""
    journal = open_journal(disk, segment_size=400)
    for index in range(1, 30):
        append(journal, entry(index))
    assert len(disk.names()) > 3
    assert after_power_loss(disk, segment_size=400) == [entry(index) for index in range(1, 30)]


def test_a_batch_larger_than_a_segment_gets_one_of_its_own(disk: SimDisk) -> None:
    """The size is a habit, no bound."""
    journal = open_journal(disk, segment_size=400)
    append(journal, entry(1))
    append(journal, *(entry(index, size=300) for index in range(2, 6)))
    append(journal, entry(6))
    assert after_power_loss(disk, segment_size=400) == contents(journal)
    assert len(disk.names()) == 3


def test_a_restarted_journal_goes_on_in_the_same_segment(disk: SimDisk) -> None:
    """Restarts do not litter the directory."""
    for index in range(1, 6):
        append(open_journal(disk), entry(index))
    assert disk.names() == [FIRST]


def test_compaction_removes_whole_segments_only(disk: SimDisk) -> None:
    """Those whose every entry lies before the snapshot; an entry that must stay keeps its segment."""
    journal = filled(disk, 7)
    journal.deleteEntriesTo(3)
    assert contents(journal) == [entry(index) for index in range(4, 8)]
    assert disk.names() == [f"00000000000{number}.segment" for number in (2, 3, 4)]
    journal.deleteEntriesTo(1)
    assert disk.names() == [f"00000000000{number}.segment" for number in (3, 4)]


def test_the_newest_segment_is_never_removed(disk: SimDisk) -> None:
    """It is being written to."""
    journal = filled(disk, 4)
    journal.deleteEntriesTo(3)
    assert disk.names() == ["000000000002.segment"]


@pytest.mark.parametrize("back", [["000000000001.segment"], ["000000000002.segment"], ["000000000001.segment"] * 2])
def test_removed_segments_that_come_back_are_removed_again(disk: SimDisk, back: list[str]) -> None:
    """A removal is not synced, so the power may fail before it is durable, and not in order."""
    journal = filled(disk, 8)
    old = {name: disk.read(name) or b"" for name in disk.names()}
    journal.deleteEntriesTo(5)
    assert disk.names() == ["000000000003.segment", "000000000004.segment"]
    for name in back:
        overwrite(disk, name, old[name])
    again = open_journal(disk)
    assert contents(again)[-3:] == [entry(6), entry(7), entry(8)]
    assert again[0][1] in (3, 5)


def test_a_segment_that_was_never_written_is_removed(disk: SimDisk) -> None:
    """The process ended between making the file and writing its header."""
    append(open_journal(disk), entry(1))
    for leftover in (bytes(4_096), b""):
        overwrite(disk, "000000000002.segment", leftover)
        assert contents(open_journal(disk)) == [entry(1)]
        assert disk.names() == [FIRST]


# ------------------------------------------------------------ restarting from a snapshot


def test_entries_behind_a_snapshot_stay(disk: SimDisk) -> None:
    """A crash between storing a snapshot and trimming the log loses nothing that was acknowledged."""
    journal = filled(disk, 11)
    journal.restart_from(entry(5), entry(6))
    assert contents(journal) == [entry(index) for index in range(5, 12)]
    assert journal.getRaftCommitIndex() == 6


@pytest.mark.parametrize(
    ("before", "last"),
    [(entry(20), entry(21)), (entry(5, term=4), entry(6, term=4)), (entry(5), entry(6, term=4))],
    ids=["far ahead", "another history", "another history from the last entry on"],
)
def test_a_log_that_does_not_hold_the_snapshots_entries_is_replaced(
    disk: SimDisk, before: tuple[bytes, int, int], last: tuple[bytes, int, int]
) -> None:
    """By the two entries that the snapshot ends with, durably, in one segment."""
    journal = filled(disk, 9)
    journal.restart_from(before, last)
    assert contents(journal) == after_power_loss(disk) == [before, last]
    assert journal.getRaftCommitIndex() == last[1]
    append(journal, entry(last[1] + 1, term=9))
    assert after_power_loss(disk) == [before, last, entry(last[1] + 1, term=9)]


def test_a_gap_between_snapshot_and_log_is_refused(disk: SimDisk) -> None:
    """Entries in between are missing: what they did is nowhere."""
    journal = open_journal(disk)
    append(journal, entry(10), entry(11))
    with pytest.raises(
        StorageError, match="entries 6 to 9 are missing behind the snapshot: run `coordinator rejoin`"
    ):
        journal.restart_from(entry(4), entry(5))


def test_a_log_without_its_beginning_needs_a_snapshot(disk: SimDisk) -> None:
    """Entries before its first are missing and nothing holds what they did."""
    journal = open_journal(disk)
    append(journal, entry(10))
    with pytest.raises(StorageError, match="entries before 10 are missing"):
        journal.require_start()
    fresh = open_journal(new_disk())
    fresh.require_start()
    append(fresh, entry(1))
    fresh.require_start()


def test_the_size_of_the_log_follows_its_entries(disk: SimDisk) -> None:
    """In bytes of commands, through everything that can happen to it: it decides when a snapshot is due."""
    journal = filled(disk, 9)
    assert journal.payload_bytes == 9 * 8
    journal.deleteEntriesFrom(7)
    assert journal.payload_bytes == 7 * 8
    journal.sync()
    assert open_journal(disk).payload_bytes == 7 * 8
    journal.deleteEntriesTo(2)
    assert journal.payload_bytes == 5 * 8
    journal.restart_from(entry(20), entry(21))
    assert journal.payload_bytes == 2 * 8
