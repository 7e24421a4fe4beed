"""Snapshot files: replaced all or nothing, and never believed when they are damaged."""

import random
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.raft.errors import StorageError
from coordinator.raft.storage.snapshot_file import Snapshot, SnapshotError, SnapshotStore, decode, encode
from tests.simulation.disk import ProcessDied, SimDisk
from tests.unit.raft import repeatable
from tests.unit.raft.storage import CLUSTER, entry, new_disk, overwrite, snapshot_bytes

SNAPSHOT = Snapshot(entry(9, term=2), entry(10, term=3), b"all there is")


def at(index: int) -> Snapshot:
    return Snapshot(entry(index - 1), entry(index), f"state at {index}".encode())


def written(snapshot: Snapshot, cluster: str = CLUSTER) -> bytes:
    return snapshot_bytes(snapshot.before, snapshot.last, bytes(snapshot.state), cluster)


def saved(disk: SimDisk, *indexes: int) -> SnapshotStore:
    store = SnapshotStore(disk, CLUSTER)
    for index in indexes:
        store.save(index, written(at(index)))
        store.prune()
    return store


def test_a_snapshot_comes_back_as_it_was() -> None:
    """The state and the two log entries that it ends with."""
    assert decode(written(SNAPSHOT), CLUSTER) == SNAPSHOT
    assert SNAPSHOT.index == 10


def test_every_damaged_byte_is_noticed() -> None:
    """Whichever byte changes, and wherever the file breaks off."""
    whole = written(SNAPSHOT)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x01
        for data in (bytes(damaged), whole[:place]):
            with pytest.raises(SnapshotError):
                decode(data, CLUSTER)


@repeatable
@given(data=st.binary(max_size=200))
def test_random_bytes_are_refused(data: bytes) -> None:
    """With nothing but SnapshotError."""
    for candidate in (data, written(SNAPSHOT)[:8] + data):
        with pytest.raises(SnapshotError):
            decode(candidate, CLUSTER)


def test_another_clusters_snapshot_is_refused() -> None:
    """In words that name both."""
    with pytest.raises(SnapshotError, match=f"belongs to cluster {CLUSTER}, this node to {'f' * 32}"):
        decode(written(SNAPSHOT), "f" * 32)


def test_the_newest_is_the_latest_and_one_older_is_kept() -> None:
    """By index, whatever the number of digits."""
    disk = new_disk()
    store = saved(disk, 9, 10, 2_000)
    found = store.latest()
    assert found == (at(2_000), written(at(2_000)))
    assert len(disk.names()) == 2


def test_without_a_snapshot_there_is_none() -> None:
    """A new node has an empty directory."""
    assert SnapshotStore(new_disk(), CLUSTER).latest() is None


@pytest.mark.parametrize("damage", [b"", b"\x00" * 300, written(at(20), "f" * 32)], ids=["empty", "zeros", "foreign"])
def test_a_damaged_newest_snapshot_is_refused_though_an_older_one_is_there(damage: bytes) -> None:
    """The log behind the older one may be gone: starting from it could forget accepted tasks."""
    disk = new_disk()
    store = saved(disk, 10, 20)
    overwrite(disk, disk.names()[-1], damage)
    with pytest.raises(StorageError, match=r"snapshot 0*20\.snapshot .*: run `coordinator rejoin`"):
        store.latest()


def test_a_crash_at_any_call_keeps_the_previous_snapshot() -> None:
    """Afterwards the latest is the old one or the new one, whole."""
    for calls in range(1, 8):
        disk = SimDisk(random.Random(calls))
        saved(disk, 10, 20)
        disk.die_in = calls
        with suppress(ProcessDied):
            saved(disk, 30)
        disk.die_in = 0
        disk.lose_power()
        found = SnapshotStore(disk, CLUSTER).latest()
        assert found is not None
        assert found[0] in (at(20), at(30))
        assert found[0] == at(20) or calls > 1


def test_a_full_disk_is_an_error_with_a_cure() -> None:
    """And the previous snapshot is still the latest."""
    disk = new_disk()
    store = saved(disk, 10)
    disk.full = True
    with pytest.raises(StorageError, match=r"snapshot 20: .*No space left on device.*: free space"):
        store.save(20, written(at(20)))
    found = store.latest()
    assert found is not None
    assert found[0] == at(10)


def test_others_have_their_turn_while_a_large_snapshot_is_made() -> None:
    """Between the parts of the state, and while the checksum of everything is taken."""
    turns: list[int] = []

    def state() -> Iterator[bytes]:
        for number in range(1, 6):
            yield bytes(1 << 20)
            assert len(turns) == number

    encode(entry(1), entry(2), state(), CLUSTER, lambda: turns.append(1))
    assert len(turns) >= 2 * 5
