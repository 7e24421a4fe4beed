"""The leader's loop that keeps the record up with the replicated state, whatever PostgreSQL is doing.

PostgreSQL away is no error here: the events wait in the outbox and the loop tries again. What ends the loop
is a record that must not be written: somebody else's turn, or somebody else's history.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from enum import StrEnum

import psycopg

from coordinator.store.batch import collapse
from coordinator.store.connection import Database, describe
from coordinator.store.deadline import Connection, answered
from coordinator.store.errors import Fenced, ProjectionError, ProjectionUnavailable
from coordinator.store.migrate import load_migrations, migrate, unapplied
from coordinator.store.observer import StoreObserver
from coordinator.store.outbox import EventOutbox, check_continuity
from coordinator.store.projection import Position, ProjectionWriter

BATCH = 1_000
"""Events a transaction, at most."""
GATHER = 0.01
"""Seconds that events are gathered for after a batch that was not full: bounds the transactions a second."""
ACKNOWLEDGE = 0.2
"""Seconds between acknowledgments, each of which is a replicated command."""
ACKNOWLEDGE_AGAIN = 1.0
"""Seconds to the next when one has failed."""
CHECK = 5.0
"""Seconds without events after which the idle connection is checked."""
ANSWER = 15.0
"""Seconds after which PostgreSQL counts as hung; above the server's own limits, which report first."""
MIGRATE = 3600.0
"""Seconds that a migration may take."""
FIRST_RETRY, LAST_RETRY = 0.2, 5.0
"""Seconds of the back-off between attempts to reach PostgreSQL, doubling from the first to the last."""

log = logging.getLogger("zkp.store")


class ProjectorStatus(StrEnum):
    """How the record is kept; `CATCHING_UP` is more than one batch behind."""

    OK = "ok"
    CATCHING_UP = "catching_up"
    DEGRADED = "degraded"
    STOPPED = "stopped"


def retry_delay(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row (1, 2, …); chance in [0, 1) spreads the upper half."""
    whole = min(LAST_RETRY, FIRST_RETRY * 2.0 ** min(failures - 1, 16))
    return whole * (1 + chance) / 2


class Projector:
    """Writes the outbox into the record while its node leads.

    acknowledge: makes the cluster forget events up to a revision (the replicated command `Projected`). When
    it fails, in whatever way, it is called again later.
    """

    def __init__(
        self,
        database: Database,
        outbox: EventOutbox,
        acknowledge: Callable[[int], Awaitable[None]],
        observer: StoreObserver | None = None,
    ) -> None:
        self._observer = observer or StoreObserver()
        self._database = database
        self._outbox = outbox
        self._acknowledge = acknowledge
        self._recorded: int | None = None
        self._written = asyncio.Event()
        self._failures = 0
        self._running = False
        self._refused = False
        self._connected = False
        self.last_error = ""
        """Why the record was last not written, in one line without secrets; empty while all is well."""
        self.left_alone = 0
        """Tasks that were not written because the record has held another, final one under the same id."""

    @property
    def status(self) -> ProjectorStatus:
        """For health reports."""
        if self._refused or not self._running:
            return ProjectorStatus.STOPPED
        if self._failures:
            return ProjectorStatus.DEGRADED
        if not self._connected or self.lag > BATCH:
            return ProjectorStatus.CATCHING_UP
        return ProjectorStatus.OK

    @property
    def lag(self) -> int:
        """Events that the record lacks, as far as this node knows."""
        recorded = self._outbox.projected if self._recorded is None else self._recorded
        return max(0, self._outbox.revision - recorded)

    @property
    def connected(self) -> bool:
        """The record is open for writing."""
        return self._connected

    @property
    def lagging_since_ms(self) -> int | None:
        """When the oldest event happened that the record lacks, milliseconds since the epoch; None: it lacks none."""
        recorded = self._outbox.projected if self._recorded is None else self._recorded
        oldest = self._outbox.pending(recorded, 1)
        return oldest[0].at_ms if oldest else None

    async def run(self, term: int) -> None:
        """Keep the record as the leader of `term`, until cancelled, or until the record refuses.

        Call it once the state has applied what was committed in earlier terms. Raises Fenced, RecordBehind,
        RecordAhead, RecordForeign or SchemaError; after any of these nothing was and nothing will be written.
        """
        self._running, self._failures, self._recorded = True, 0, None
        self._written.clear()
        parts = {
            asyncio.create_task(self._keep_writing(term), name="projection writer"),
            asyncio.create_task(self._keep_acknowledging(), name="projection acknowledger"),
        }
        try:
            await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for part in parts:
                part.cancel()
            results = await asyncio.gather(*parts, return_exceptions=True)
            self._running = self._connected = False
        for result in results:
            if isinstance(result, Exception):
                self._refused = isinstance(result, ProjectionError)
                if self._refused:
                    self._observer.refused()
                self.last_error = describe(result)
                # Being fenced is what happens to a leader that was deposed; the rest needs an operator.
                level = logging.WARNING if isinstance(result, Fenced) else logging.CRITICAL
                log.log(level, "record not written: %s", self.last_error, extra={"term": term})
                raise result

    async def _keep_writing(self, term: int) -> None:
        while True:
            try:
                await self._write_while_connected(term)
            except (psycopg.Error, OSError, ProjectionUnavailable) as error:
                self._failures += 1
                self.last_error = describe(error)
                log.warning(
                    "record not reached, %d events behind: %s", self.lag, self.last_error, extra={"term": term}
                )
            finally:
                self._connected = False
            await asyncio.sleep(retry_delay(self._failures, random.random()))  # noqa: S311 - spreads retries

    async def _write_while_connected(self, term: int) -> None:
        """One connection's life; ends with an exception."""
        with self._observer.asking("connect"):
            connection = await self._database.connect_writer()
        try:
            projection = ProjectionWriter(connection, term)
            position = await self._open(connection, projection, term)
            self._set_recorded(position.revision)
            self._connected, self._refused = True, False
            log.info(
                "record opened at revision %d, %d events behind",
                position.revision,
                self.lag,
                extra={"term": term},
            )
            while True:
                await self._write_next(connection, projection)
        finally:
            await connection.close()

    async def _open(self, connection: Connection, projection: ProjectionWriter, term: int) -> Position:
        """Make sure of the record, then of the tables, then of the term: nobody else's database is touched."""
        known = load_migrations()
        todo = await answered(connection, ANSWER, unapplied(connection, known))
        found = await answered(connection, ANSWER, projection.position())
        if found is not None:
            check_continuity(found, self._outbox)
        if todo:
            await answered(connection, MIGRATE, migrate(connection, term, known))
        position = await answered(connection, ANSWER, projection.begin())
        # Once more: the leader before may have written until this moment.
        check_continuity(position, self._outbox)
        return position

    async def _write_next(self, connection: Connection, projection: ProjectionWriter) -> None:
        after = self._recorded or 0
        events = self._outbox.pending(after, BATCH)
        if not events:
            self._recovered()
            try:
                await asyncio.wait_for(self._outbox.wait(after), CHECK)
            except TimeoutError:
                await answered(connection, ANSWER, projection.check(after))
            return
        batch = collapse(events, after)
        with self._observer.asking("write"):
            left_alone = await answered(connection, ANSWER, projection.write(batch, after))
        self._observer.wrote(len(events))
        self._recovered()
        self._set_recorded(batch.revision)
        if left_alone:
            self.left_alone += len(left_alone)
            log.error(
                "task ids reused; the projection keeps the existing rows",
                extra={"task_id": ", ".join(sorted(left_alone))},
            )
        if len(events) < BATCH:
            await asyncio.sleep(GATHER)

    def _set_recorded(self, revision: int) -> None:
        self._recorded = revision
        self._written.set()

    def _recovered(self) -> None:
        if self._failures:
            log.info("record reached again, %d events behind", self.lag)
        self._failures, self.last_error = 0, ""

    async def _keep_acknowledging(self) -> None:
        while True:
            await self._written.wait()
            self._written.clear()
            recorded = self._recorded
            if recorded is not None and recorded > self._outbox.projected:
                try:
                    await self._acknowledge(recorded)
                except Exception as error:  # noqa: BLE001 - replication fails in many ways, all passing
                    log.warning("record not acknowledged at revision %d: %s", recorded, describe(error))
                    self._written.set()
                    await asyncio.sleep(ACKNOWLEDGE_AGAIN)
            await asyncio.sleep(ACKNOWLEDGE)
