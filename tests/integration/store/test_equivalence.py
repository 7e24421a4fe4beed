"""Whatever happens, and wherever it is cut into batches or crashes: in the end the record equals the state."""

import asyncio
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coordinator.state.commands import Projected
from coordinator.state.machine import State
from coordinator.state.model import Attempt, Task, TaskState
from coordinator.store import Database, Fenced, ProjectionReader
from coordinator.store.batch import collapse, sanitize_text
from coordinator.store.outbox import StateOutbox, check_continuity
from coordinator.store.projection import ProjectionWriter
from tests.integration.postgres import Databases, PostgresServer
from tests.unit.store.histories import SETTING, play, random_commands

Parameters = dict[str, str]


class Witness:
    """Sees every event as it happens, and so knows what the record must hold in the end."""

    def __init__(self) -> None:
        self.state = State()
        self.tasks: dict[str, Task] = {}
        self.attempts: dict[tuple[str, int], Attempt] = {}

    def apply(self, commands: list[Any], term: int) -> None:
        for event in play(self.state, commands, term):
            if event.task is not None:
                # The record holds no digest, and no text that PostgreSQL cannot.
                text = sanitize_text(event.task.error_message)
                self.tasks[event.task.id] = replace(event.task, digest=b"", error_message=text)
            if event.attempt is not None:
                key = (event.attempt.task_id, event.attempt.attempt)
                self.attempts[key] = replace(event.attempt, error_message=sanitize_text(event.attempt.error_message))


@pytest.fixture(scope="module")
def parameters(postgres: PostgresServer, databases: Databases, template: str) -> Iterator[Parameters]:
    """One database for all examples; each begins by emptying it."""
    name = databases.create(template)
    yield postgres.parameters(name)
    databases.drop(name)


def _empty(parameters: Parameters) -> None:
    keywords: dict[str, Any] = dict(parameters)
    with psycopg.connect(autocommit=True, **keywords) as connection:
        # Only a superuser can put the guards aside.
        connection.execute("SET session_replication_role = replica")
        connection.execute("DELETE FROM attempts; DELETE FROM tasks; DELETE FROM workers")
        connection.execute("DELETE FROM circuits; DELETE FROM revocations")
        connection.execute("UPDATE projection SET term = 0, revision = 0, fingerprint = NULL")


class Leader:
    """A writer of one term, which writes when it is told to and can crash in between."""

    def __init__(self, projection: ProjectionWriter, witness: Witness) -> None:
        self._projection = projection
        self._witness = witness
        self._outbox = StateOutbox(lambda: witness.state)
        self.recorded = 0

    async def begin(self) -> None:
        position = await self._projection.begin()
        check_continuity(position, self._outbox)
        self.recorded = position.revision

    async def write(self, size: int) -> None:
        events = self._outbox.pending(self.recorded, size)
        if events:
            assert await self._projection.write(collapse(events, self.recorded), self.recorded) == frozenset()
            self.recorded = events[-1].revision

    def acknowledge(self, term: int) -> None:
        # Nothing is forgotten here: an id that is used again is another test's matter.
        self._witness.apply([Projected(self.recorded, 0)], term)


async def _live(database: Database, witness: Witness, chance: random.Random) -> None:
    """A life of commands, batches, acknowledgments that come or do not, and leaders that crash or are deposed."""
    term = 1
    async with await database.connect_writer() as first, await database.connect_writer() as second:
        connections = [first, second]
        leader = Leader(ProjectionWriter(first, term), witness)
        await leader.begin()
        witness.apply(list(SETTING), term)
        for _ in range(chance.randint(5, 30)):
            for command in random_commands(witness.state, chance, chance.randint(0, 8)):
                if not isinstance(command, Projected):
                    witness.apply([command], term)
            if chance.random() < 0.7:
                await leader.write(chance.choice([1, 2, 5, 1000]))
            if chance.random() < 0.5:
                leader.acknowledge(term)
            if chance.random() < 0.3:
                deposed, term = leader, term + chance.randint(0, 2)
                connections.reverse()
                leader = Leader(ProjectionWriter(connections[0], term), witness)
                await leader.begin()
                assert leader.recorded >= deposed.recorded
                if chance.random() < 0.5:
                    await _stray_write(deposed, leader)
        while leader.recorded < witness.state.revision:
            await leader.write(chance.choice([1, 3, 1000]))


async def _stray_write(deposed: Leader, leader: Leader) -> None:
    """The leader before still believes in itself. Within one term it is the same node, and may write."""
    try:
        await deposed.write(2)
    except Fenced:
        return
    leader.recorded = max(leader.recorded, deposed.recorded)


async def _compare(database: Database, witness: Witness) -> None:
    record = ProjectionReader(database, 2)
    listed: list[Task] = []
    token = ""
    while True:
        page = await record.list_tasks(None, None, 7, token)
        listed += page.tasks
        token = page.next_token
        if not token:
            break
    assert {task.id: task for task in listed} == witness.tasks
    for task_id in witness.tasks:
        for attempt in await record.get_attempts(task_id):
            assert witness.attempts.pop((task_id, attempt.attempt)) == attempt
    assert not witness.attempts
    summary = await record.summary()
    assert summary.revision == witness.state.revision
    assert summary.counts == witness.state.counts
    assert summary.accepted_once == summary.counts[TaskState.COMPLETED]
    await record.close()
    async with await database.connect_reader() as connection:
        cursor = await connection.execute("SELECT id, state, incarnation, reason, circuits FROM workers")
        workers = {row["id"]: row for row in await cursor.fetchall()}
        cursor = await connection.execute("SELECT serial, subject, reason, revision FROM revocations")
        revocations = {row["serial"]: row for row in await cursor.fetchall()}
    assert set(workers) == set(witness.state.workers)
    for worker in witness.state.workers.values():
        row = workers[worker.id]
        assert (row["state"], row["incarnation"], row["reason"] or "") == (
            worker.state,
            worker.incarnation,
            worker.reason,
        )
        assert frozenset(row["circuits"]) == worker.circuits
    for revocation in witness.state.revoked.values():
        row = revocations.pop(revocation.serial)
        assert (row["subject"], row["revision"]) == (revocation.subject, revocation.revision)
        assert row["reason"] == sanitize_text(revocation.reason)
    assert not revocations


@settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**32))
def test_the_record_equals_the_state_whatever_was_cut_off_where(parameters: Parameters, seed: int) -> None:
    """Random commands, random batches, crashes between write and acknowledgment, deposed leaders that try again."""
    _empty(parameters)
    witness = Witness()
    database = Database(parameters, application="test")

    async def scenario() -> None:
        await _live(database, witness, random.Random(seed))
        await _compare(database, witness)

    asyncio.run(scenario())
