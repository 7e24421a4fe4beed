"""Taking snapshots while the node goes on working, and how far the log is cut back behind them."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coordinator.raft.errors import StorageError
from coordinator.raft.snapshots import CHUNK_BYTES, MAX_SNAPSHOT_BYTES, Snapshots, Work
from coordinator.raft.storage.journal import Journal
from coordinator.raft.storage.snapshot_file import SnapshotStore
from tests.simulation.disk import SimDisk
from tests.unit.raft.lone_node import Machine
from tests.unit.raft.storage import CLUSTER, append, contents, entry, new_disk, open_journal

NEVER = 1 << 40


class Bench:
    """Snapshots of a journal; `pending` are the encodings that run elsewhere, finished by `finish`."""

    def __init__(self, disk: SimDisk | None = None, *, at_once: bool = False) -> None:
        self.disk = disk or new_disk()
        self.journal: Journal = open_journal(self.disk, segment_size=1 << 20)
        self.machine = Machine()
        self.pending: list[tuple[Work, Callable[[Any], None]]] = []
        self.at_once = at_once
        self.received: list[int] = []
        self.snapshots = Snapshots(
            self.disk, CLUSTER, self.journal, self.machine, self._offload, on_received=self._put_into_effect
        )

    def _put_into_effect(self, index: int) -> None:
        self.received.append(index)
        before, last = self.snapshots.restore() or (entry(0), entry(0))
        self.journal.restart_from(before, last)

    def _offload(self, work: Work, done: Callable[[Any], None]) -> None:
        self.pending.append((work, done))
        if self.at_once:
            self.finish()

    def finish(self) -> None:
        work, done = self.pending.pop(0)
        done(work(lambda: None))

    def grow(self, last: int, size: int = 8) -> None:
        """Entries up to `last` are added and applied."""
        first = len(self.journal) and self.journal[-1][1]
        append(self.journal, *(entry(index, size=size) for index in range(first + 1, last + 1)))
        for index in range(first + 1, last + 1):
            self.machine.apply(f"{index}".encode(), index)


def test_a_snapshot_is_due_when_enough_entries_were_applied() -> None:
    """Not before, and not again before as many more."""
    bench = Bench(at_once=True)
    bench.grow(10)
    bench.snapshots.take_when_due(10, max_entries=10, max_bytes=NEVER)
    assert bench.snapshots.index == 0
    bench.grow(11)
    bench.snapshots.take_when_due(11, max_entries=10, max_bytes=NEVER)
    assert bench.snapshots.index == 11
    bench.grow(20)
    bench.snapshots.take_when_due(20, max_entries=10, max_bytes=NEVER)
    assert bench.snapshots.index == 11


def test_a_snapshot_is_due_when_the_log_is_large() -> None:
    """Few entries may hold many bytes: memory is bounded."""
    bench = Bench(at_once=True)
    bench.grow(5, size=1_000)
    bench.snapshots.take_when_due(5, max_entries=NEVER, max_bytes=5_000)
    assert bench.snapshots.index == 5


def test_the_state_is_that_of_the_moment_and_the_node_goes_on() -> None:
    """What is applied while the snapshot is encoded elsewhere is not in it; only one is taken at a time."""
    bench = Bench()
    bench.grow(10)
    bench.snapshots.take_when_due(10, max_entries=5, max_bytes=NEVER)
    expected = repr(bench.machine.applied).encode()
    bench.grow(30)
    bench.snapshots.take_when_due(30, max_entries=5, max_bytes=NEVER)
    assert len(bench.pending) == 1
    assert bench.snapshots.index == 0
    bench.finish()
    found = SnapshotStore(bench.disk, CLUSTER).latest()
    assert found is not None
    assert (found[0].before, found[0].last, found[0].state) == (entry(9), entry(10), expected)


def test_the_nodes_own_thread_writes_no_snapshot() -> None:
    """A large one takes longer than an election timeout: it is durable before this thread hears of it."""
    bench = Bench()
    bench.grow(10)
    bench.snapshots.take_when_due(10, max_entries=5, max_bytes=NEVER)
    work, done = bench.pending.pop()
    size = work(lambda: None)
    bench.disk.full = True
    done(size)
    assert bench.snapshots.index == 10
    found = SnapshotStore(bench.disk, CLUSTER).latest()
    assert found is not None
    assert found[0].index == 10


def test_a_node_that_lags_a_little_needs_no_snapshot() -> None:
    """A thousand entries stay behind it, when they are small."""
    bench = Bench(at_once=True)
    bench.grow(3_000)
    bench.snapshots.take_when_due(3_000, max_entries=10, max_bytes=NEVER)
    assert bench.journal[0][1] == 3_000 - 1 - 1_000
    restarted = open_journal(bench.disk)
    restarted.restart_from(entry(2_999), entry(3_000))
    assert contents(restarted) == [entry(2_999), entry(3_000)]


def test_large_entries_do_not_stay_behind_a_snapshot() -> None:
    """They would keep the log above its bound, and each applied entry would bring another snapshot."""
    bench = Bench(at_once=True)
    taken: set[int] = set()
    for index in range(1, 200):
        bench.grow(index, size=1_000)
        bench.snapshots.take_when_due(index, max_entries=NEVER, max_bytes=20_000)
        taken.add(bench.snapshots.index)
    assert len(taken) < 20
    assert bench.journal.payload_bytes <= 20_000
    assert bench.journal[0][1] < bench.snapshots.index


def test_a_newer_snapshot_from_the_leader_is_not_set_back() -> None:
    """The node's own was still being encoded when it came."""
    bench, other = Bench(), Bench(at_once=True)
    bench.grow(10)
    bench.snapshots.take_when_due(10, max_entries=5, max_bytes=NEVER)
    other.grow(50)
    other.snapshots.take_when_due(50, max_entries=5, max_bytes=NEVER)
    data, first, last = other.snapshots.next_chunk("n2") or (b"", False, False)
    bench.snapshots.receive(data, first=first, last=last, last_applied=10)
    bench.pending.reverse()  # what came last is done first
    bench.finish()
    assert bench.received == [50]
    bench.finish()
    assert bench.snapshots.index == 50
    assert contents(bench.journal) == [entry(49), entry(50)]


def test_a_snapshot_that_cannot_be_encoded_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory may have run short; the log would otherwise grow for ever."""

    def short_of_memory() -> Iterator[bytes]:
        yield b"a part"
        raise MemoryError

    bench = Bench(at_once=True)
    bench.grow(10)
    monkeypatch.setattr(bench.machine, "capture", short_of_memory)
    bench.snapshots.take_when_due(10, max_entries=5, max_bytes=NEVER)
    assert bench.snapshots.index == 0
    monkeypatch.undo()
    bench.snapshots.take_when_due(10, max_entries=5, max_bytes=NEVER)
    assert bench.snapshots.index == 10


def test_a_snapshot_that_cannot_be_stored_ends_the_node() -> None:
    """The log is not cut back behind what is not durable."""
    bench = Bench()
    bench.grow(3_000)
    bench.snapshots.take_when_due(3_000, max_entries=5, max_bytes=NEVER)
    bench.disk.full = True
    with pytest.raises(StorageError, match="No space left on device"):
        bench.finish()
    assert bench.journal[0][1] == 1


def test_a_snapshot_is_handed_out_in_parts() -> None:
    """All but the last of one size; together they are the file."""
    bench = Bench(at_once=True)
    bench.machine.applied = [(1, b"x" * 3 * CHUNK_BYTES)]
    bench.grow(10)
    bench.snapshots.take_when_due(10, max_entries=5, max_bytes=NEVER)
    parts: list[tuple[bytes, bool, bool]] = []
    while not parts or not parts[-1][2]:
        part = bench.snapshots.next_chunk("n2")
        assert part is not None
        parts.append(part)
    assert [first for _, first, _ in parts] == [True] + [False] * (len(parts) - 1)
    assert {len(data) for data, _, _ in parts[:-1]} == {CHUNK_BYTES}
    name = next(name for name in bench.disk.names() if name.endswith(".snapshot"))
    assert b"".join(data for data, _, _ in parts) == bench.disk.read(name)
    assert bench.snapshots.sent_index("n2") == 10


def with_a_large_snapshot() -> Bench:
    bench = Bench(at_once=True)
    bench.machine.applied = [(1, b"x" * 3 * CHUNK_BYTES)]
    bench.grow(10)
    bench.snapshots.take_when_due(10, max_entries=5, max_bytes=NEVER)
    return bench


def test_a_snapshot_is_never_read_as_a_whole_to_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """That would stop a leader for longer than an election timeout, each time a peer needs it."""
    bench = with_a_large_snapshot()
    monkeypatch.setattr(bench.disk, "read", None)
    read: list[int] = []
    read_part = bench.disk.read_part

    def watched(name: str, offset: int, size: int) -> bytes | None:
        read.append(size)
        return read_part(name, offset, size)

    monkeypatch.setattr(bench.disk, "read_part", watched)
    for count in range(1, 4):
        assert bench.snapshots.next_chunk("n2") is not None
        assert len(read) == count
    assert max(read) <= CHUNK_BYTES + 1


def test_a_snapshot_that_is_replaced_while_it_is_sent_begins_again() -> None:
    """Two newer ones were made meanwhile; the peer gets the newest, from its first part on."""
    bench = with_a_large_snapshot()
    bench.snapshots.next_chunk("n2")
    for last in (20, 30):
        bench.grow(last)
        bench.snapshots.take_when_due(last, max_entries=5, max_bytes=NEVER)
    data, first, _ = bench.snapshots.next_chunk("n2") or (b"", False, False)
    newest = SnapshotStore(bench.disk, CLUSTER).latest()
    assert newest is not None
    assert first
    assert data == newest[1][:CHUNK_BYTES]
    assert bench.snapshots.sent_index("n2") == 30


def test_a_damaged_snapshot_is_found_out_when_it_is_sent() -> None:
    """The node that holds it ends, with the cure; its peer would wait for a sound one for ever."""
    bench = with_a_large_snapshot()
    name = next(name for name in bench.disk.names() if name.endswith(".snapshot"))
    bench.disk.corrupt(name, CHUNK_BYTES + 5)
    with pytest.raises(StorageError, match=r"snapshot .* is damaged: run `coordinator rejoin`"):
        deque(iter(lambda: bench.snapshots.next_chunk("n2"), None), maxlen=0)


def test_without_a_snapshot_there_is_nothing_to_send() -> None:
    """A leader whose log begins at the first entry needs none."""
    bench = Bench()
    assert bench.snapshots.next_chunk("n2") is None
    assert bench.snapshots.restore() is None


def test_a_snapshot_beyond_all_bounds_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A leader gone wrong does not exhaust this node's memory."""
    monkeypatch.setattr("coordinator.raft.snapshots.MAX_SNAPSHOT_BYTES", 100)
    bench = Bench()
    bench.snapshots.receive(b"x" * 60, first=True, last=False, last_applied=0)
    bench.snapshots.receive(b"x" * 60, first=False, last=False, last_applied=0)
    assert bench.snapshots._receiving is None
    bench.snapshots.receive(b"x", first=False, last=True, last_applied=0)
    assert not bench.pending
    assert MAX_SNAPSHOT_BYTES > 1 << 30
