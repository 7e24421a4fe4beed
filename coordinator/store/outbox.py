"""Outbox of events that are not yet in the projection, as the projector reads it from the replicated state."""

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
    """Events by their revision, without gaps."""

    @property
    def revision(self) -> int:
        """Revision of the last event."""

    @property
    def projected(self) -> int:
        """Last revision that is acknowledged as projected; events up to it may have been evicted."""

    def pending(self, after: int, limit: int) -> Sequence[TaskEvent]:
        """Return the first `limit` events after revision `after`, in order."""

    async def wait(self, after: int) -> None:
        """Return once there is an event after revision `after`."""


class StateOutbox:
    """The replicated state's outbox. After commands are applied, `notify` must be called on the same event loop."""

    def __init__(self, state: Callable[[], State]) -> None:
        """Args: state: Returns the current state; loading a snapshot replaces it."""
        self._state = state
        self._changed = asyncio.Event()

    @property
    def revision(self) -> int:
        """Return the revision of the state."""
        return self._state().revision

    @property
    def projected(self) -> int:
        """Return the highest revision that is known to be projected."""
        return self._state().projected

    def pending(self, after: int, limit: int) -> Sequence[TaskEvent]:
        """Return up to `limit` events after a revision."""
        events = self._state().outbox
        if not events:
            return ()
        start = max(0, after + 1 - events[0].revision)
        return tuple(islice(events, start, start + limit))

    def notify(self) -> None:
        """Wake up `wait`: the state may have changed."""
        self._changed.set()

    async def wait(self, after: int) -> None:
        """Return when there is an event after this revision."""
        while self.revision <= after:
            self._changed.clear()
            await self._changed.wait()


def check_continuity(position: Position, outbox: EventOutbox) -> None:
    """Check that the outbox continues the projection; otherwise further writes would make a false history.

    The state must have applied everything that was committed before this leader's term.

    Raises:
        ProjectionAhead: The projection has more events than the cluster.
        ProjectionBehind: The projection lost events that it once had.
        ProjectionForeign: The projection belongs to another cluster.
    """
    if position.revision > outbox.revision:
        raise ProjectionAhead(
            f"the projection is at revision {position.revision}, the cluster only at {outbox.revision}: "
            "the cluster's data was lost or restored; give it a new database, or restore its data"
        )
    if position.revision < outbox.projected:
        raise ProjectionBehind(
            f"the projection is at revision {position.revision} and was at {outbox.projected}: "
            "it lost data or is an old backup; restore a newer backup"
        )
    if position.revision > outbox.projected:
        event = outbox.pending(position.revision - 1, 1)[0]
        if fingerprint(event) != position.fingerprint:
            raise ProjectionForeign(
                f"event {position.revision} of the projection is not this cluster's: the database belongs to "
                "another or an earlier cluster; give this one its own database"
            )
