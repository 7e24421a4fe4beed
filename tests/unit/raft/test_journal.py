"""The durable log: what was synced is there after any loss of power, and nothing else is made up."""

import random

import pytest

from coordinator.raft.errors import StorageError
from coordinator.raft.journal import Journal
from coordinator.raft.records import FORMAT_VERSION, HEADER_SIZE, RECORD_OVERHEAD
from tests.simulation.disk import SimDisk, SimFile
from tests.unit.raft.storage import (
    CLUSTER,
    NODE,
    SyncCount,
    after_power_loss,
    append,
    contents,
    entry,
    new_disk,
    open_journal,
    overwrite,
)

FIRST = "000000000001.segment"
ENTRY_SIZE = RECORD_OVERHEAD + len(entry(1)[0])


@pytest.fixture
def disk() -> SimDisk:
    return new_disk()


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> SyncCount:
    count = SyncCount()
    monkeypatch.setattr(SimFile, "write_at", lambda file, data, offset: count.write_at(file, data, offset))
    monkeypatch.setattr(SimFile, "datasync", lambda file: count.datasync(file))
    return count


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


def test_a_batch_costs_one_write_and_one_sync(disk: SimDisk, syncs: SyncCount) -> None:
    """However many entries are in it; without any, nothing is written."""
    journal = open_journal(disk)
    append(journal, entry(1))
    before = (syncs.writes, syncs.syncs)
    append(journal, *(entry(index) for index in range(2, 40)))
    assert (syncs.writes, syncs.syncs) == (before[0] + 1, before[1] + 1)
    journal.sync()
    assert (syncs.writes, syncs.syncs) == (before[0] + 1, before[1] + 1)


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


def filled(disk: SimDisk, last: int) -> Journal:
    """Entries 1 to `last`, two a segment."""
    journal = open_journal(disk, segment_size=HEADER_SIZE + 2 * ENTRY_SIZE)
    for index in range(1, last + 1):
        append(journal, entry(index))
    return journal


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
    with pytest.raises(StorageError, match="entries 6 to 9 are missing behind the snapshot: move"):
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


# ------------------------------------------------------------ torn and damaged


def two_batches(disk: SimDisk) -> tuple[bytes, int, int]:
    """The segment's bytes after two synced batches of two entries, and where the second begins and ends."""
    journal = open_journal(disk)
    append(journal, entry(1), entry(2))
    start = HEADER_SIZE + 2 * ENTRY_SIZE
    append(journal, entry(3), entry(4))
    return disk.read(FIRST) or b"", start, start + 2 * ENTRY_SIZE


@pytest.mark.parametrize("garbage", [b"\x00", b"\xa5"], ids=["zeros", "garbage"])
def test_a_torn_tail_is_cut_at_any_byte(disk: SimDisk, garbage: bytes) -> None:
    """Wherever the last batch breaks off: what was acknowledged before it stays, and the log goes on from there."""
    whole, start, end = two_batches(disk)
    for cut in range(start, end):
        overwrite(disk, FIRST, whole[:cut] + garbage * (end - cut) + whole[end:])
        survivors = [entry(1), entry(2)] + ([entry(3)] if cut >= start + ENTRY_SIZE else [])
        journal = open_journal(disk)
        assert contents(journal) == survivors
        append(journal, entry(len(survivors) + 1, term=2))
        assert after_power_loss(disk) == [*survivors, entry(len(survivors) + 1, term=2)]


def test_what_was_cut_off_never_comes_back(disk: SimDisk) -> None:
    """The tail is erased: a later entry of the same size does not make an old one behind it readable again."""
    whole, start, end = two_batches(disk)
    torn = bytearray(whole)
    torn[start + RECORD_OVERHEAD] ^= 0xFF  # entry 3 is damaged, entry 4 behind it is whole
    overwrite(disk, FIRST, bytes(torn))
    journal = open_journal(disk)
    assert contents(journal) == [entry(1), entry(2)]
    append(journal, entry(3, term=2))
    assert after_power_loss(disk) == [entry(1), entry(2), entry(3, term=2)]
    assert whole[start + ENTRY_SIZE : end] not in (disk.durable(FIRST) or b"")


def test_damage_before_the_tail_refuses_to_start(disk: SimDisk) -> None:
    """Any byte of an entry that was acknowledged: cutting it off would lose it, so an operator must decide."""
    whole, start, _ = two_batches(disk)
    for place in range(start):
        damaged = bytearray(whole)
        damaged[place] ^= 0x01
        overwrite(disk, FIRST, bytes(damaged))
        with pytest.raises(StorageError, match=r"000000000001\.segment .*: move the raft directory away"):
            open_journal(disk)


def test_damage_in_an_older_segment_refuses_to_start(disk: SimDisk) -> None:
    """Whether bytes were changed, erased or cut off."""
    filled(disk, 5)
    name = "000000000002.segment"
    whole = disk.read(name) or b""
    changed = bytearray(whole)
    changed[-3] ^= 0xFF
    for damaged in (bytes(changed), whole[:HEADER_SIZE] + bytes(len(whole) - HEADER_SIZE), whole[:-9], b""):
        overwrite(disk, name, damaged)
        with pytest.raises(StorageError, match="move the raft directory away"):
            open_journal(disk)


def test_a_missing_segment_between_others_is_not_passed_over(disk: SimDisk) -> None:
    """The run of segments begins behind the gap, so the log does, and that needs a snapshot."""
    journal = filled(disk, 8)
    journal.close()
    disk.remove("000000000002.segment")
    with pytest.raises(StorageError, match="entries before 5 are missing"):
        open_journal(disk).require_start()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"cluster": "f" * 32}, f"belongs to cluster {CLUSTER}, this node to {'f' * 32}"),
        ({"node_id": "coordinator-9"}, f"belongs to node {NODE}, this is coordinator-9"),
    ],
)
def test_a_strangers_journal_is_refused(disk: SimDisk, changed: dict[str, str], message: str) -> None:
    """A directory that was copied from another node or another cluster."""
    append(open_journal(disk), entry(1))
    with pytest.raises(StorageError, match=f"{message}: move the raft directory away"):
        open_journal(disk, **changed)  # type: ignore[arg-type]  # a table of keyword arguments


def test_a_journal_of_another_version_is_refused(disk: SimDisk) -> None:
    """In words, naming both versions."""
    append(open_journal(disk), entry(1))
    newer = bytearray(disk.read(FIRST) or b"")
    newer[8:10] = (FORMAT_VERSION + 1).to_bytes(2, "little")
    overwrite(disk, FIRST, bytes(newer))
    with pytest.raises(StorageError, match=f"version {FORMAT_VERSION + 1}; this program reads version"):
        open_journal(disk)


def test_a_damaged_vote_is_refused(disk: SimDisk) -> None:
    """To start without it could mean to vote twice: never is it silently ignored."""
    journal = open_journal(disk)
    append(journal, entry(1))
    journal.setCurrentTerm(3, NODE)
    whole = disk.read("vote") or b""
    for damaged in (b"", whole[:-5], whole.replace(b"3", b"4", 1)):
        overwrite(disk, "vote", damaged)
        with pytest.raises(StorageError, match="file vote is damaged: move the raft directory away"):
            open_journal(disk)


# ------------------------------------------------------------ a failing disk


def test_a_full_disk_is_an_error_with_a_cure(disk: SimDisk) -> None:
    """Named as what it is, also when it is a new segment that finds no room."""
    disk.full = True
    journal = open_journal(disk)
    journal.add(*entry(1))
    with pytest.raises(StorageError, match="No space left on device: free space"):
        journal.sync()


def test_after_an_error_nothing_is_tried_again(disk: SimDisk) -> None:
    """Nobody knows what the disk holds: a second try could acknowledge what is lost. The process must end."""
    journal = open_journal(disk)
    append(journal, entry(1))
    journal.setCurrentTerm(1, None)
    journal.add(*entry(2))
    disk.full = True
    with pytest.raises(StorageError):
        journal.sync()
    disk.full = False
    for call in (
        journal.sync,
        lambda: journal.add(*entry(3)),
        lambda: journal.setCurrentTerm(2, None),
        lambda: journal.setRaftCommitIndex(2),
        lambda: journal.deleteEntriesFrom(1),
        journal.clear,
    ):
        with pytest.raises(StorageError, match="the process must end"):
            call()
    assert after_power_loss(disk) == [entry(1)]


def test_a_vote_that_cannot_be_stored_is_not_cast(disk: SimDisk) -> None:
    """The journal still says what it said before, and the node ends."""
    journal = open_journal(disk)
    journal.setCurrentTerm(1, NODE)
    disk.full = True
    with pytest.raises(StorageError, match="No space left"):
        journal.setCurrentTerm(2, "coordinator-3")
    assert (journal.getCurrentTerm(), journal.getVotedForNodeId()) == (1, NODE)
    with pytest.raises(StorageError, match="the process must end"):
        journal.setCurrentTerm(2, NODE)


def test_an_error_of_the_disk_is_met_before_entries_are_acknowledged(
    disk: SimDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sync that fails is an error even though the write went well."""
    journal = open_journal(disk)
    append(journal, entry(1))

    def fail(_file: SimFile) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(SimFile, "datasync", fail)
    journal.add(*entry(2))
    with pytest.raises(StorageError, match="Input/output error"):
        journal.sync()


def test_closing_writes_nothing(disk: SimDisk) -> None:
    """What was not synced was never acknowledged."""
    journal = open_journal(disk)
    append(journal, entry(1))
    journal.add(*entry(2))
    journal.close()
    assert contents(open_journal(disk)) == [entry(1)]


def test_a_disk_that_tears_sectors_keeps_what_was_synced() -> None:
    """Two batches of many sectors; of the second an arbitrary part reached the disk."""
    for seed in range(50):
        disk = SimDisk(random.Random(seed))
        journal = open_journal(disk, segment_size=16_384)
        kept = [entry(index, size=400) for index in range(1, 6)]
        append(journal, *kept)
        for index in range(6, 12):
            journal.add(*entry(index, size=400))
        disk.die_in = 2  # after the write, before the sync is over
        with pytest.raises(BaseException, match=r"^$"):
            journal.sync()
        disk.die_in = 0
        disk.lose_power()
        found = contents(open_journal(disk))
        assert found[:5] == kept
        assert found[5:] == [entry(index, size=400) for index in range(6, len(found) + 1)]
