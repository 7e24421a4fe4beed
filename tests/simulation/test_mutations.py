"""The simulation can fail: with any one fix switched off, it does, within the seeds that are run here."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from coordinator.raft import engine, node
from coordinator.raft.engine import Core
from coordinator.raft.journal import Journal
from coordinator.raft.membership import Membership, Standing
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


def votes_without_its_memory(patch: pytest.MonkeyPatch) -> None:
    store = Membership._store

    def as_voter(membership: Membership, cluster_id: str, _standing: Standing) -> None:
        store(membership, cluster_id, Standing.VOTER)

    patch.setattr(Membership, "_store", as_voter)


# With the seed that is known to show it first: the search goes on from there, should the simulation change.
MUTATIONS: tuple[tuple[Switch, int], ...] = (
    (promises_before_the_disk_has_them, 0),
    (votes_in_memory_only, 0),
    (truncates_on_repeated_entries, 9),
    (votes_without_its_memory, 21),
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
