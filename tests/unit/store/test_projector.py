"""The projector before it has met a database."""

import asyncio

import pytest

from coordinator.state.machine import State
from coordinator.store.connection import Database
from coordinator.store.deadline import Connection
from coordinator.store.errors import ProjectionUnavailable
from coordinator.store.outbox import StateOutbox
from coordinator.store.projector import MAX_BACKOFF_S, MIN_BACKOFF_S, Projector, ProjectorStatus, retry_delay
from tests.unit.store.histories import SETTING, play


class AbsentDatabase(Database):
    """A database that cannot be reached."""

    def __init__(self) -> None:
        super().__init__({}, application="test")
        self.tried = asyncio.Event()

    async def connect_writer(self) -> Connection:
        self.tried.set()
        raise ProjectionUnavailable("no route to host")


async def _acknowledge(revision: int) -> None:
    raise AssertionError(revision)


@pytest.mark.parametrize(("failures", "whole"), [(1, 0.2), (2, 0.4), (3, 0.8), (5, 3.2), (6, 5.0), (1000, 5.0)])
def test_the_wait_between_attempts_doubles_up_to_a_limit(failures: int, whole: float) -> None:
    """Spread over its upper half, so that nodes do not knock in step."""
    assert retry_delay(failures, 0.0) == pytest.approx(whole / 2)
    assert retry_delay(failures, 0.5) == pytest.approx(whole * 0.75)
    assert MIN_BACKOFF_S / 2 <= retry_delay(failures, 0.999) < MAX_BACKOFF_S


def test_a_node_that_does_not_lead_does_not_write() -> None:
    """Its status says so, and its lag is what the state knows."""
    state = State()
    play(state, SETTING)
    projector = Projector(AbsentDatabase(), StateOutbox(lambda: state), _acknowledge)

    assert projector.status is ProjectorStatus.STOPPED
    assert projector.lag == 5


async def test_an_absent_database_is_reported_and_no_error() -> None:
    """The loop goes on trying, and stops when it is told to."""
    state = State()
    play(state, SETTING)
    database = AbsentDatabase()
    projector = Projector(database, StateOutbox(lambda: state), _acknowledge)
    running = asyncio.ensure_future(projector.run(1))
    await database.tried.wait()
    await asyncio.sleep(0)

    assert (projector.status, projector.last_error, projector.lag) == ("degraded", "no route to host", 5)

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert projector.status is ProjectorStatus.STOPPED
