"""What the projector reads: the events that the record still lacks, as the replicated state holds them."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol

from coordinator.state.machine import State
from coordinator.state.model import TaskEvent
from coordinator.store.batch import fingerprint
from coordinator.store.errors import ProjectionAhead, ProjectionBehind, ProjectionForeign
from coordinator.store.projection import Position


class EventOutbox(Protocol):
    """Events by their revision, which has no gaps."""

    @property
    def revision(self) -> int:
        """The last event's."""

    @property
    def projected(self) -> int:
        """The last one that the record is known to hold; `pending` may have forgotten events up to it."""

    def pending(self, after: int, limit: int) -> Sequence[TaskEvent]:
        """The first `limit` events after revision `after`, in order."""

    async def wait(self, after: int) -> None:
        """Return once there is an event after revision `after`."""


class StateOutbox:
    """The replicated state's outbox. Whoever applies commands calls `notify` after them, on the same loop."""

    def __init__(self, state: Callable[[], State]) -> None:
        """state: gives the state as it is now; a node that loads a snapshot has a new one."""
        self._state = state
        self._changed = asyncio.Event()

    @property
    def revision(self) -> int:
        return self._state().revision

    @property
    def projected(self) -> int:
        return self._state().projected

    def pending(self, after: int, limit: int) -> Sequence[TaskEvent]:
        events = self._state().outbox
        if not events:
            return ()
        start = max(0, after + 1 - events[0].revision)
        return tuple(islice(events, start, start + limit))

    def notify(self) -> None:
        """Say that the state may have changed."""
        self._changed.set()

    async def wait(self, after: int) -> None:
        while self.revision <= after:
            self._changed.clear()
            await self._changed.wait()


def check_continuity(position: Position, outbox: EventOutbox) -> None:
    """Refuse a record of which the outbox is not the continuation: writing on would make a false history.

    Raises ProjectionAhead, ProjectionBehind or ProjectionForeign. Needs a state that has applied everything that was
    committed before this leader's term.
    """
    if position.revision > outbox.revision:
        raise ProjectionAhead(
            f"the projection holds revision {position.revision}, the cluster has reached only {outbox.revision}: "
            "the cluster's data was lost or restored; give it a new database, or restore its data"
        )
    if position.revision < outbox.projected:
        raise ProjectionBehind(
            f"the projection ends at revision {position.revision} and has held {outbox.projected}: "
            "it lost data or is an old backup; restore a newer backup"
        )
    if position.revision > outbox.projected:
        event = outbox.pending(position.revision - 1, 1)[0]
        if fingerprint(event) != position.fingerprint:
            raise ProjectionForeign(
                f"the projection's event {position.revision} is not this cluster's: the database belongs to "
                "another or an earlier cluster; give this one its own database"
            )
