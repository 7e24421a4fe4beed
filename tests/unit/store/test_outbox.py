"""What the projector reads from the state, and when it must not go on from a record."""

import asyncio

import pytest

from coordinator.state.commands import Projected
from coordinator.state.machine import State
from coordinator.store.batch import fingerprint
from coordinator.store.errors import ProjectionAhead, ProjectionBehind, ProjectionForeign
from coordinator.store.outbox import StateOutbox, check_continuity
from coordinator.store.projection import Position
from tests.unit.store.histories import SETTING, play, submit


@pytest.fixture
def state() -> State:
    """Ten events, of which the first four are known to be recorded."""
    state = State()
    play(state, [*SETTING, *(submit(f"task-{number}") for number in range(5))])
    play(state, [Projected(4, 0)])
    return state


def test_pending_events_follow_the_revision_that_was_asked_for(state: State) -> None:
    """Whether the state has forgotten earlier ones or not."""
    outbox = StateOutbox(lambda: state)

    assert (outbox.revision, outbox.projected) == (10, 4)
    assert [event.revision for event in outbox.pending(4, 3)] == [5, 6, 7]
    assert [event.revision for event in outbox.pending(7, 100)] == [8, 9, 10]
    assert [event.revision for event in outbox.pending(2, 2)] == [5, 6]
    assert not outbox.pending(10, 100)
    assert not StateOutbox(State).pending(0, 100)


async def test_waiting_ends_with_the_next_event(state: State) -> None:
    """A change that brings no event wakes nobody for good."""
    outbox = StateOutbox(lambda: state)
    await outbox.wait(9)
    waiting = asyncio.ensure_future(outbox.wait(10))
    await asyncio.sleep(0)
    outbox.notify()
    await asyncio.sleep(0)
    assert not waiting.done()

    play(state, [submit("task-9")])
    outbox.notify()

    await waiting


def _position(state: State, revision: int) -> Position:
    event = next((event for event in state.outbox if event.revision == revision), None)
    return Position(1, revision, fingerprint(event) if event else b"?" * 32)


@pytest.mark.parametrize("revision", [4, 5, 10])
def test_a_record_that_the_outbox_continues_is_accepted(state: State, revision: int) -> None:
    """At what was acknowledged, and up to all that was written before a crash kept it from being acknowledged."""
    check_continuity(_position(state, revision), StateOutbox(lambda: state))


def test_a_record_that_lost_data_is_refused(state: State) -> None:
    """Events that the cluster has forgotten cannot be written again."""
    with pytest.raises(ProjectionBehind, match="is at revision 3 and was at 4"):
        check_continuity(_position(state, 3), StateOutbox(lambda: state))


def test_a_record_that_knows_more_than_the_cluster_is_refused(state: State) -> None:
    """The cluster was wiped, or set back."""
    with pytest.raises(ProjectionAhead, match="is at revision 11, the cluster only at 10"):
        check_continuity(_position(state, 11), StateOutbox(lambda: state))


def test_a_record_of_another_history_is_refused(state: State) -> None:
    """Its numbers would fit, and what they stand for does not."""
    with pytest.raises(ProjectionForeign, match="event 7 of the projection is not this cluster's"):
        check_continuity(Position(1, 7, b"!" * 32), StateOutbox(lambda: state))
