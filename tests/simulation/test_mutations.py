"""The simulation can fail: with any one fix switched off, it does, within the seeds that are run here."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coordinator.raft import engine, journal, node
from coordinator.raft.engine import Core
from coordinator.raft.journal import Journal
from coordinator.raft.membership import Membership, Standing
from coordinator.raft.node import RaftNode
from protocol.v1 import raft_pb2 as pb
from tests.simulation.cluster import Cluster, Violation
from tests.simulation.faults import torment

ATTEMPTS = 400
Switch = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def _quiet_and_restore_clock(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.CRITICAL + 1)
    real = engine.engine.monotonicTime
    yield
    engine.use_clock(real)


def promises_before_the_disk_has_them(patch: pytest.MonkeyPatch) -> None:
    def send(wire: Any, peer_id: str, message: dict[str, Any]) -> None:
        if message["type"] != "apply_command":
            wire._node.send(peer_id, node.frames.from_engine(message))

    patch.setattr(node._CoreWire, "send", send)


def votes_in_memory_only(patch: pytest.MonkeyPatch) -> None:
    def remember(log: Journal, term: int, vote: str | None) -> None:
        log._term, log._voted_for = term, vote

    patch.setattr(Journal, "setCurrentTerm", remember)


def truncates_on_repeated_entries(patch: pytest.MonkeyPatch) -> None:
    def truncate(core: Core, index: int) -> None:
        core._journal.deleteEntriesFrom(index - core._journal[0][1])

    patch.setattr(Core, "_SyncObj__deleteEntriesFrom", truncate)
    patch.setattr(Core, "feed_entries", Core.feed)


def commits_by_parts_of_snapshots(patch: pytest.MonkeyPatch) -> None:
    def install(raft: RaftNode, core: Core, peer: str, envelope: pb.Envelope) -> None:
        if envelope.install_snapshot.term >= core.raftCurrentTerm:
            core.feed(peer, node.frames.to_engine(envelope))

    patch.setitem(RaftNode._HANDLERS, "install_snapshot", install)


def believes_the_page_cache_after_a_crash(patch: pytest.MonkeyPatch) -> None:
    recover = Journal._recover

    def without_sync(log: Journal) -> None:
        disk_open = log._disk.open

        def open_file(name: str) -> Any:
            file = disk_open(name)
            file.datasync = lambda: None  # type: ignore[method-assign]
            return file

        log._disk.open = open_file  # type: ignore[method-assign]
        recover(log)
        log._disk.open = disk_open  # type: ignore[method-assign]
        if log._file is not None:
            del log._file.datasync  # type: ignore[attr-defined]

    patch.setattr(Journal, "_recover", without_sync)


def takes_removed_segments_for_the_log(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Journal,
        "_segment_names",
        lambda log: [name for name in log._disk.names() if name.endswith(journal._SUFFIX)],
    )


def votes_without_its_memory(patch: pytest.MonkeyPatch) -> None:
    store = Membership._store

    def as_voter(membership: Membership, cluster_id: str, _standing: Standing) -> None:
        store(membership, cluster_id, Standing.VOTER)

    patch.setattr(Membership, "_store", as_voter)


def keeps_silent_to_older_leaders(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RaftNode, "_show_term", lambda raft, core, peer: None)


# With the seed that is known to show it first: the search goes on from there, should the simulation change.
MUTATIONS: tuple[tuple[Switch, int], ...] = (
    (promises_before_the_disk_has_them, 0),
    (votes_in_memory_only, 0),
    (truncates_on_repeated_entries, 9),
    (commits_by_parts_of_snapshots, 59),
    (believes_the_page_cache_after_a_crash, 252),
    (takes_removed_segments_for_the_log, 458),
    (votes_without_its_memory, 21),
    (keeps_silent_to_older_leaders, 279),
)


@pytest.mark.parametrize(("switch_off", "seed"), MUTATIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_without_the_fix_a_promise_is_broken(switch_off: Switch, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that does this is found out."""
    switch_off(monkeypatch)
    for attempt in range(seed, seed + ATTEMPTS):
        try:
            torment(Cluster(attempt), faults=12)
        except Violation:
            return
    pytest.fail(f"{ATTEMPTS} seeds did not notice")
