"""Bytes that changed, and a disk that fails: refused with a cure, and never a guess."""

import random

import pytest

from coordinator.raft.errors import StorageError
from coordinator.raft.storage.segment import FORMAT_VERSION, HEADER_SIZE, RECORD_OVERHEAD
from tests.simulation.disk import SimDisk, SimFile
from tests.unit.raft.storage import (
    CLUSTER,
    ENTRY_SIZE,
    FIRST,
    NODE,
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
        with pytest.raises(StorageError, match=r"000000000001\.segment .*: run `coordinator rejoin`"):
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
        with pytest.raises(StorageError, match="run `coordinator rejoin`"):
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
    with pytest.raises(StorageError, match=f"{message}: run `coordinator rejoin`"):
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
        with pytest.raises(StorageError, match="file vote is damaged: run `coordinator rejoin`"):
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


def test_a_disk_that_cannot_be_read_is_an_error_with_a_cure(disk: SimDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start too: one line for the operator, naming what the system said."""
    append(open_journal(disk), entry(1))

    def fail(_name: str) -> None:
        raise OSError(5, "Input/output error")

    for call in ("read", "open"):
        with monkeypatch.context() as patch:
            patch.setattr(disk, call, fail)
            with pytest.raises(StorageError, match="Input/output error: free space or replace the disk"):
                open_journal(disk)


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
