"""The leader's loop that writes the replicated state's events to the projection.

An unavailable PostgreSQL does not end the loop: the events wait in the outbox, and the loop retries. It ends if the
projection must not be written: a later leader writes it, or it has another history.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from enum import StrEnum

import psycopg

from coordinator.store.batch import collapse
from coordinator.store.connection import Database, describe
from coordinator.store.deadline import Connection, with_deadline
from coordinator.store.errors import Fenced, ProjectionError, ProjectionUnavailable
from coordinator.store.migrate import load_migrations, migrate, unapplied
from coordinator.store.observer import StoreObserver
from coordinator.store.outbox import EventOutbox, check_continuity
from coordinator.store.projection import Position, ProjectionWriter

MAX_BATCH_EVENTS = 1_000
"""Maximum number of events per transaction."""
BATCH_LINGER_S = 0.01
"""Wait for further events after a batch that was not full; bounds the number of transactions per second."""
ACK_INTERVAL_S = 0.2
"""Time between acknowledgements, each of which is a replicated command."""
ACK_RETRY_S = 1.0
"""Time to the next acknowledgement after a failed one."""
IDLE_CHECK_S = 5.0
"""Time without events after which the connection is checked."""
STATEMENT_TIMEOUT_S = 15.0
"""Limit for a statement, above the server's own limits, whose errors are more specific."""
MIGRATION_TIMEOUT_S = 3600.0
"""Limit for the migrations."""
MIN_BACKOFF_S, MAX_BACKOFF_S = 0.2, 5.0
"""Backoff between attempts to connect, doubling from the minimum to the maximum."""

log = logging.getLogger("zkp.store")


class ProjectorStatus(StrEnum):
    """State of the projection; `CATCHING_UP` is more than one batch behind."""

    OK = "ok"
    CATCHING_UP = "catching_up"
    DEGRADED = "degraded"
    STOPPED = "stopped"


def retry_delay(failures: int, chance: float) -> float:
    """Return the backoff in seconds.

    Args:
        failures: Number of consecutive failures, at least 1.
        chance: Random number in [0, 1), which spreads the upper half of the backoff.
    """
    whole = min(MAX_BACKOFF_S, MIN_BACKOFF_S * 2.0 ** min(failures - 1, 16))
    return whole * (1 + chance) / 2


class Projector:
    """Writes the outbox to the projection while its node is the leader.

    Args:
        database: Database of the projection.
        outbox: Events to write.
        acknowledge: Proposes the command `Projected`, after which events up to a revision can be evicted. It is
            called again later if it raises anything.
        observer: Receives measurements.
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
        self._projected: int | None = None
        self._written = asyncio.Event()
        self._failures = 0
        self._running = False
        self._refused = False
        self._connected = False
        self.last_error = ""
        """Last error, as one line without secrets; empty after a successful write."""
        self.skipped = 0
        """Number of tasks that were not written because the projection has a final one with the same id."""

    @property
    def status(self) -> ProjectorStatus:
        """State for health reports."""
        if self._refused or not self._running:
            return ProjectorStatus.STOPPED
        if self._failures:
            return ProjectorStatus.DEGRADED
        if not self._connected or self.lag > MAX_BATCH_EVENTS:
            return ProjectorStatus.CATCHING_UP
        return ProjectorStatus.OK

    @property
    def lag(self) -> int:
        """Number of events that the projection lacks, as far as this node knows."""
        projected = self._outbox.projected if self._projected is None else self._projected
        return max(0, self._outbox.revision - projected)

    @property
    def connected(self) -> bool:
        """Whether the projection is open for writing."""
        return self._connected

    @property
    def lagging_since_ms(self) -> int | None:
        """Time of the oldest event that the projection lacks, in ms since the epoch; None if it lacks none."""
        projected = self._outbox.projected if self._projected is None else self._projected
        oldest = self._outbox.pending(projected, 1)
        return oldest[0].at_ms if oldest else None

    async def run(self, term: int) -> None:
        """Write the projection as the leader of `term` until cancelled, or until it must not be written.

        The state must have applied everything that was committed in earlier terms. After any of these errors, nothing
        more is written.

        Raises:
            Fenced: A leader of a later term writes the projection.
            ProjectionBehind: The projection lost events.
            ProjectionAhead: The projection has more events than the cluster.
            ProjectionForeign: The projection belongs to another cluster.
            DatabaseSchemaError: The schema does not match this release.
        """
        self._running, self._failures, self._projected = True, 0, None
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
                # A deposed leader is expected to be fenced; every other error needs an operator.
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
        """Write over one connection, until an exception."""
        with self._observer.query_timer("connect"):
            connection = await self._database.connect_writer()
        try:
            projection = ProjectionWriter(connection, term)
            position = await self._open(connection, projection, term)
            self._set_projected(position.revision)
            self._connected, self._refused = True, False
            log.info(
                "projection opened at revision %d, %d events behind",
                position.revision,
                self.lag,
                extra={"term": term},
            )
            while True:
                await self._write_next(connection, projection)
        finally:
            await connection.close()

    async def _open(self, connection: Connection, projection: ProjectionWriter, term: int) -> Position:
        """Check the projection, then migrate the schema, then raise the term: a foreign database is not changed."""
        known = load_migrations()
        outstanding = await with_deadline(connection, STATEMENT_TIMEOUT_S, unapplied(connection, known))
        position = await with_deadline(connection, STATEMENT_TIMEOUT_S, projection.position())
        if position is not None:
            check_continuity(position, self._outbox)
        if outstanding:
            await with_deadline(connection, MIGRATION_TIMEOUT_S, migrate(connection, term, known))
        position = await with_deadline(connection, STATEMENT_TIMEOUT_S, projection.begin())
        # Again: the previous leader may have written until now.
        check_continuity(position, self._outbox)
        return position

    async def _write_next(self, connection: Connection, projection: ProjectionWriter) -> None:
        after = self._projected or 0
        events = self._outbox.pending(after, MAX_BATCH_EVENTS)
        if not events:
            self._recovered()
            try:
                await asyncio.wait_for(self._outbox.wait(after), IDLE_CHECK_S)
            except TimeoutError:
                await with_deadline(connection, STATEMENT_TIMEOUT_S, projection.check(after))
            return
        batch = collapse(events, after)
        with self._observer.query_timer("write"):
            skipped = await with_deadline(connection, STATEMENT_TIMEOUT_S, projection.write(batch, after))
        self._observer.wrote(len(events))
        self._recovered()
        self._set_projected(batch.revision)
        if skipped:
            self.skipped += len(skipped)
            log.error(
                "task ids reused; keeping the existing rows",
                extra={"task_id": ", ".join(sorted(skipped))},
            )
        if len(events) < MAX_BATCH_EVENTS:
            await asyncio.sleep(BATCH_LINGER_S)

    def _set_projected(self, revision: int) -> None:
        self._projected = revision
        self._written.set()

    def _recovered(self) -> None:
        if self._failures:
            log.info("projection reached again, %d events behind", self.lag)
        self._failures, self.last_error = 0, ""

    async def _keep_acknowledging(self) -> None:
        while True:
            await self._written.wait()
            self._written.clear()
            projected = self._projected
            if projected is not None and projected > self._outbox.projected:
                try:
                    await self._acknowledge(projected)
                except Exception as error:  # noqa: BLE001 - replication has many errors, all transient
                    log.warning("projection not acknowledged at revision %d: %s", projected, describe(error))
                    self._written.set()
                    await asyncio.sleep(ACK_RETRY_S)
            await asyncio.sleep(ACK_INTERVAL_S)
