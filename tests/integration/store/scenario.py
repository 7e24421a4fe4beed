"""A node's part in the tests: a replicated state, its outbox and a projector on a real database."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from coordinator.state.commands import Command, Projected
from coordinator.state.machine import State
from coordinator.store import Database, Projector, StateOutbox
from tests.unit.store.histories import play

WITHIN = 60.0
"""Seconds after which something that must happen counts as not happening; no test waits for it."""


class Node:
    """A state that changes as a leader's would, and a projector that keeps its record."""

    def __init__(self, database: Database) -> None:
        self.state = State()
        self.outbox = StateOutbox(lambda: self.state)
        self.acknowledged: list[int] = []
        self.projector = Projector(database, self.outbox, self._acknowledge)

    async def _acknowledge(self, revision: int) -> None:
        self.acknowledged.append(revision)
        self.apply([Projected(revision, 0)])

    def apply(self, commands: Sequence[Command], term: int = 1) -> None:
        """Apply commands, and say so."""
        play(self.state, commands, term)
        self.outbox.notify()

    @contextlib.asynccontextmanager
    async def leading(self, term: int = 1) -> AsyncIterator["asyncio.Task[None]"]:
        """Within this context the projector runs."""
        running = asyncio.ensure_future(self.projector.run(term))
        try:
            yield running
        finally:
            running.cancel()
            await asyncio.wait({running})

    async def recorded(self) -> None:
        """Return once the record holds everything and the state knows it."""
        await until(lambda: self.projector.lag == 0 and self.state.projected == self.state.revision)


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds."""
    async with asyncio.timeout(WITHIN):
        while not condition():  # noqa: ASYNC110 - not every condition has an event
            await asyncio.sleep(0.01)
