"""The record, as PostgreSQL would keep it, and the leaders that write it: the real outbox, batches and fences.

A transaction that was sent is committed at its own time, whatever has become of the leader by then.
"""

from collections.abc import Callable, Mapping

from coordinator.leader.retention import Retention
from coordinator.state.commands import Projected
from coordinator.state.model import Task
from coordinator.store import Fenced, ProjectionError, StateOutbox
from coordinator.store.batch import Batch, collapse, fingerprint, task_columns
from coordinator.store.outbox import check_continuity
from coordinator.store.projection import Position
from tests.simulation.cluster import Cluster, Follower
from tests.simulation.node import SimNode

_BATCH = 200
_PAUSE, _RETRY = 0.05, 0.3
_RETENTION = 6.0
"""Seconds that an ended task stays in memory; clients ask about each of theirs for less than that."""


class SimRecord(Follower):
    """Tables behind the fence of queries.sql; `away` while PostgreSQL does not answer."""

    fenced = True
    """Whether terms are compared; revisions always are."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.away = False
        self._latest = 0
        self.position = Position(0, 0, None)
        self.tasks: dict[str, Task] = {}
        self._writers: dict[str, Writer] = {}

    # ------------------------------------------------------------ what a leader may do to it

    def begin(self, term: int) -> Position:
        """Raises Fenced when a later term has begun, ConnectionError when it is away."""
        self._reach()
        if self.fenced and term < self.position.term:
            raise Fenced(f"term {self.position.term} writes it")
        self.position = Position(term, self.position.revision, self.position.fingerprint)
        self._written(term)
        return self.position

    def write(self, term: int, batch: Batch, expected: int) -> None:
        """One transaction. Raises Fenced or ConnectionError, and has changed nothing then."""
        self._reach()
        if expected != self.position.revision or (self.fenced and term != self.position.term):
            raise Fenced(f"it is at {self.position}")
        self._check(term, batch)
        self._written(term)
        self.position = Position(term, batch.revision, batch.fingerprint)
        self.tasks.update(batch.tasks)

    def _written(self, term: int) -> None:
        """By nobody who was deposed, whatever the fence is made of."""
        if term < self._latest:
            self._cluster.broken(f"term {term} writes the record after term {self._latest}")
        self._latest = max(self._latest, term)

    def _reach(self) -> None:
        if self.away:
            raise ConnectionError("PostgreSQL does not answer")

    def _check(self, term: int, batch: Batch) -> None:
        """What is written is what was agreed, by nobody who was deposed before the event happened."""
        events = self._cluster.ledger.events
        if batch.revision > len(events):
            self._cluster.broken(f"term {term} records event {batch.revision}, which was never agreed")
        elif fingerprint(events[batch.revision - 1]) != batch.fingerprint:
            self._cluster.broken(f"term {term} records another event {batch.revision} than was agreed")

    # ------------------------------------------------------------ who leads

    def leads(self, node: SimNode, term: int) -> None:
        self.leads_no_more(node)
        self._writers[node.name] = Writer(self._cluster, self, node, term)

    def leads_no_more(self, node: SimNode) -> None:
        writer = self._writers.pop(node.name, None)
        if writer is not None:
            writer.stopped = True

    def settled(self) -> bool:
        """It holds everything; should there be no end of events, everything but the last few."""
        return self.position.revision >= len(self._cluster.ledger.events) - _BATCH

    def check_end(self) -> None:
        """It holds exactly what was agreed, up to where it is."""
        events = self._cluster.ledger.events[: self.position.revision]
        agreed = collapse(events, 0).tasks if events else {}
        if _columns(self.tasks) != _columns(agreed):
            self._cluster.broken("the record holds other tasks than were agreed")


def _columns(tasks: Mapping[str, Task]) -> dict[str, object]:
    """What is kept of them. Private inputs are not; after a restart the outbox lacks them, too."""
    return dict(task_columns(tasks[name] for name in sorted(tasks)))


class Writer:
    """The duty of one leader in one term, in the steps of the real projector."""

    def __init__(self, cluster: Cluster, record: SimRecord, node: SimNode, term: int) -> None:
        self._cluster = cluster
        self._record = record
        self._node = node
        self._term = term
        self._outbox = StateOutbox(lambda: node.machine.state)
        self._recorded = 0
        self._retention = Retention(_RETENTION)
        self.stopped = False
        self._soon(self._open)

    def _soon(self, step: Callable[[], None], delay: float = _PAUSE) -> None:
        def go() -> None:
            if self.stopped:
                return
            if self._node.paused:
                self._soon(step)
                return
            try:
                step()
            except ConnectionError:
                self._soon(self._open, _RETRY)
            except Fenced:
                self.stopped = True
            except ProjectionError as error:
                self._cluster.broken(f"{self._node.name} finds the record foreign: {error}")

        self._cluster.at(delay, go)

    def _open(self) -> None:
        position = self._record.begin(self._term)
        check_continuity(position, self._outbox)
        self._recorded = position.revision
        self._soon(self._send)

    def _send(self) -> None:
        events = self._outbox.pending(self._recorded, _BATCH)
        if not events:
            self._soon(self._acknowledge)
            return
        batch, expected = collapse(events, self._recorded), self._recorded
        answered: list[Exception | None] = []

        def commit() -> None:
            try:
                self._record.write(self._term, batch, expected)
            except (Fenced, ConnectionError) as error:
                answered.append(error)
            else:
                answered.append(None)

        def answer() -> None:
            if answered[0] is not None:
                raise answered[0]
            self._recorded = batch.revision
            self._acknowledge()

        self._cluster.at(self._cluster.chance(0.0, 0.02), commit)
        self._soon(answer, 0.03)

    def _acknowledge(self) -> None:
        if self._recorded > self._outbox.projected:
            forget = self._retention.expired_revision(
                self._cluster.time, self._term, self._node.machine.state.revision
            )
            self._node.propose([Projected(self._recorded, forget)], lambda _result: None)
        self._soon(self._send)
