"""Revoking certificates, telling who follows, and acting on what was agreed."""

import asyncio
from collections.abc import Iterable
from contextlib import aclosing

import pytest

from coordinator.errors import InvalidRequest, Overloaded, Unavailable
from coordinator.raft import NotLeader
from coordinator.services import revocations as module
from coordinator.services.revocations import Certificate, Revocations
from coordinator.state.codec import capture_state
from coordinator.state.commands import RevokeCertificate
from coordinator.state.model import TaskState, WorkerState
from tests.unit.coordinator.fakes import LocalReplicator, assign, leader, register, submit
from zkp.protocol.limits import MAX_CERTIFICATES

OWN = "ad31"
YEAR_MS = 365 * 86_400_000


class Side:
    """One node's revocations, and what it did about them."""

    def __init__(self, replicator: LocalReplicator) -> None:
        self.replicator = replicator
        self.refused: list[set[int]] = []
        self.closed = 0
        self.users: dict[str, str] = {}
        self.callers: dict[str, str] = {}
        self.revocations = Revocations(
            replicator,
            refuse=self._refuse,
            close=self._close,
            find_worker=lambda serial: self.users.get(serial, ""),
            find_caller=lambda serial: self.callers.get(serial, ""),
            clock_ms=lambda: replicator.now_ms,
        )

    def _refuse(self, serials: Iterable[int]) -> None:
        self.refused.append(set(serials))

    def _close(self) -> None:
        self.closed += 1

    def agree(self, *serials: str) -> None:
        """As if another leader had proposed it."""
        for serial in serials:
            self.replicator.apply(RevokeCertificate(serial, "", "", 2_000_000_000_000))


@pytest.fixture
def side() -> Side:
    return Side(leader())


async def test_what_is_revoked_is_refused_at_once(side: Side) -> None:
    """Once it is agreed on, and before the caller has its answer; open things are closed in the same step."""
    new, found = await side.revocations.revoke([Certificate("a1"), Certificate("b2")], OWN)

    assert (new, [one.serial for one in found]) == (2, ["a1", "b2"])
    assert side.refused == [{0xA1, 0xB2}]
    assert side.closed == 1
    assert list(side.replicator.state.revoked) == ["a1", "b2"]


async def test_revoking_again_changes_nothing_and_succeeds(side: Side) -> None:
    """A request whose answer was lost can be sent again."""
    await side.revocations.revoke([Certificate("a1")], OWN)

    new, found = await side.revocations.revoke([Certificate("a1"), Certificate("b2"), Certificate("b2")], OWN)

    assert (new, [one.serial for one in found]) == (1, ["a1", "b2", "b2"])
    assert side.refused == [{0xA1}, {0xB2}]


async def test_a_workers_leases_are_taken_back_with_its_certificate(side: Side) -> None:
    """In the same step, and the worker is named in the record though the caller did not know whose it was."""
    register(side.replicator, "worker-1")
    submit(side.replicator, "a", max_retries=0)
    assign(side.replicator, "a", "worker-1")
    side.users["a1"] = "worker-1"

    await side.revocations.revoke([Certificate("a1", reason="key-compromise")], OWN)

    state = side.replicator.state
    assert state.revoked["a1"].subject == "worker/worker-1"
    assert state.revoked["a1"].reason == "key-compromise"
    assert state.workers["worker-1"].state is WorkerState.OFFLINE
    assert state.tasks["a"].state is TaskState.PENDING


async def test_the_answer_names_the_holder_that_the_leader_knows(side: Side) -> None:
    """A registered worker, another caller by the certificate that it called with, or an empty subject."""
    register(side.replicator, "worker-1")
    side.users["a1"] = "worker-1"
    side.callers["b2"] = "gateway/gateway-1"

    _, found = await side.revocations.revoke([Certificate("a1"), Certificate("b2"), Certificate("c3")], OWN)

    assert [one.subject for one in found] == ["worker/worker-1", "gateway/gateway-1", ""]


async def test_it_is_kept_until_the_certificate_expires(side: Side) -> None:
    """When that is unknown, or said to be later than any certificate lives, for the longest that one may."""
    now = side.replicator.now_ms
    wanted = [Certificate("a1", not_after_ms=now + 5_000), Certificate("b2"), Certificate("c3", not_after_ms=1 << 60)]

    await side.revocations.revoke(wanted, OWN)

    revoked = side.replicator.state.revoked
    assert revoked["a1"].not_after_ms == now + 5_000
    assert now + YEAR_MS < revoked["b2"].not_after_ms < now + 2 * YEAR_MS
    assert revoked["c3"].not_after_ms == revoked["b2"].not_after_ms


@pytest.mark.parametrize(
    ("certificates", "field"),
    [
        ([], "certificates"),
        ([Certificate("a1")] * (MAX_CERTIFICATES + 1), "certificates"),
        ([Certificate("b2"), Certificate("")], r"certificates\[1\].serial"),
        ([Certificate("A1")], r"certificates\[0\].serial"),
        ([Certificate("0a1")], r"certificates\[0\].serial"),
        ([Certificate("0x1")], r"certificates\[0\].serial"),
        ([Certificate("a" * 41)], r"certificates\[0\].serial"),
        ([Certificate(OWN)], r"certificates\[0\].serial: is the certificate used for this request"),
        ([Certificate("a1", subject="x" * 129)], r"certificates\[0\].subject"),
        ([Certificate("a1", reason="two\nlines")], r"certificates\[0\].reason"),
    ],
)
async def test_a_bad_request_revokes_nothing(side: Side, certificates: list[Certificate], field: str) -> None:
    """Errors name the field; an admin cannot revoke its own certificate, not even in a long list."""
    with pytest.raises(InvalidRequest, match=field):
        await side.revocations.revoke(certificates, OWN)
    assert side.replicator.state.revoked == {}


async def test_only_the_leader_revokes_and_lists(side: Side) -> None:
    """The others send callers to it."""
    side.replicator.depose("coordinator-2")
    with pytest.raises(NotLeader):
        await side.revocations.revoke([Certificate("a1")], OWN)
    with pytest.raises(NotLeader):
        await side.revocations.page(0, 0)


async def test_pages_are_in_order_and_complete(side: Side) -> None:
    """First revoked first, each once; the answer holds what others have accepted before."""
    side.replicator.on_barrier = lambda: side.agree("a1", "b2", "c3")

    first = await side.revocations.page(0, 2)
    side.replicator.on_barrier = lambda: None
    rest = await side.revocations.page(first[-1].revision, 2)

    assert [one.serial for one in first] == ["a1", "b2"]
    assert [one.serial for one in rest] == ["c3"]
    assert list(await side.revocations.page(rest[-1].revision, 0)) == []
    with pytest.raises(InvalidRequest, match="page_size"):
        await side.revocations.page(0, MAX_CERTIFICATES + 1)


async def test_who_follows_hears_the_old_ones_and_then_each_new_one(side: Side) -> None:
    """At once, even when there is nothing to hear; then without a pause."""
    async with aclosing(side.revocations.follow(0)) as batches:
        assert await anext(batches) == []
        side.agree("a1", "b2")
        heard = list(await anext(batches))
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)
        side.agree("c3")
        heard += await waiting
    assert [one.serial for one in heard] == ["a1", "b2", "c3"]

    async with aclosing(side.revocations.follow(heard[1].revision)) as later:
        assert [one.serial for one in await anext(later)] == ["c3"]


async def test_following_ends_with_leadership_and_with_the_process(side: Side) -> None:
    """Nobody goes on listening to a node that may hear nothing any more."""
    follower = side.revocations.follow(0)
    await anext(follower)
    waiting = asyncio.ensure_future(anext(follower))
    await asyncio.sleep(0)
    side.replicator.depose("coordinator-2")
    with pytest.raises(NotLeader):
        await waiting

    side.replicator.elect()
    follower = side.revocations.follow(0)
    await anext(follower)
    side.revocations.end_all(Unavailable("stopping"))
    with pytest.raises(Unavailable, match="stopping"):
        await anext(follower)


async def test_the_number_of_followers_is_bounded(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs memory; one that leaves makes room."""
    monkeypatch.setattr(module, "_MAX_FOLLOWERS", 1)
    first = side.revocations.follow(0)
    await anext(first)
    with pytest.raises(Overloaded):
        await anext(side.revocations.follow(0))
    await first.aclose()
    assert await anext(side.revocations.follow(0)) == []


async def test_a_follower_of_the_cluster_refuses_too(side: Side) -> None:
    """Every node enforces what it applies, followers included."""
    side.replicator.depose("coordinator-2")
    side.agree("a1")
    assert side.refused == [{0xA1}]
    assert side.closed == 1


async def test_a_state_from_a_snapshot_is_caught_up_with(side: Side) -> None:
    """At the start, and when a node that was down for long is sent one; once, and not at every look."""
    side.agree("a1", "b2")
    fresh = Side(LocalReplicator())
    fresh.revocations.catch_up()
    state = memoryview(b"".join(capture_state(side.replicator.state)))
    fresh.replicator.replica.load(state, lambda: None)()

    fresh.revocations.catch_up()
    fresh.revocations.catch_up()

    assert fresh.refused == [set(), {0xA1, 0xB2}]


async def test_open_things_are_looked_at_regularly(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list on the disk may have changed: that is no event."""
    monkeypatch.setattr(module, "_CHECK_INTERVAL_S", 0)
    looking = asyncio.create_task(side.revocations.run())
    while side.closed < 3:  # noqa: ASYNC110 - nothing tells us
        await asyncio.sleep(0)
    looking.cancel()


async def test_a_failure_to_act_stops_no_state_and_is_made_up_for(
    side: Side, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What listens to the state must not stop it; the next look acts on everything again."""

    def fail() -> None:
        raise RuntimeError("torn")

    side.revocations.catch_up()
    with monkeypatch.context() as broken:
        broken.setattr(side.revocations, "_close", fail)
        side.agree("a1")
    assert "revocations were not acted on" in caplog.text

    side.revocations.catch_up()
    assert side.refused[-1] == {0xA1}
