"""Tasks for a network under test: prepare, submit, wait, and check against the projection."""

import asyncio
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.integration.cluster.network import WAIT_TIMEOUT_S, Network, eventually
from zkp.client.model import Accepted, Submission, Task, TaskState
from zkp.client.tasks import TaskClient
from zkp.proofs import circuits
from zkp.proofs.groth16 import Verifier
from zkp.proofs.keys import KeyStore

_NUMBERS = itertools.count(1)
_LOAD_PAUSE_S = 0.03
_LIST = list(range(1001, 1031))
_REQUESTS: Mapping[str, Mapping[str, object]] = {
    "addition": {"a": 20, "b": 22},
    "range_proof": {"value": 42, "min": 18, "max": 120, "blinding": 7},
    "merkle_proof": {"leaves": _LIST, "leaf_index": 17},
}


def submission(circuit: str = "addition", task_id: str | None = None, **request: object) -> Submission:
    """Return one submission, by default with the circuit's standard request."""
    prepared = circuits.prepare(circuit, request or _REQUESTS[circuit])
    return Submission(task_id or f"{circuit}-{next(_NUMBERS)}", circuit, prepared.inputs, prepared.public_inputs)


async def submit(client: TaskClient, *submissions: Submission) -> list[str]:
    """Submit all and return their ids; each must be accepted."""
    ids = []
    async for _, outcome in client.submit_many(submissions):
        assert isinstance(outcome, Accepted), outcome
        ids.append(outcome.task.id)
    return ids


async def finished(client: TaskClient, ids: Iterable[str]) -> dict[str, Task]:
    """Wait for every task's final state."""
    async with asyncio.timeout(WAIT_TIMEOUT_S):
        return {task_id: await client.wait(task_id) for task_id in ids}


async def under_way(client: TaskClient, task_id: str) -> Task:
    """Wait until a worker proves the task."""
    async with asyncio.timeout(WAIT_TIMEOUT_S):
        async for task in client.watch(task_id):
            if task.state is TaskState.IN_PROGRESS:
                return task
            assert not task.state.final, task
    raise AssertionError("watch ends with a final state")


def check_proofs(keys: Path, tasks: Mapping[str, Task]) -> None:
    """Assert that every task is completed with a valid proof of its statement."""
    verifier = Verifier(KeyStore(keys))
    for task in tasks.values():
        assert task.state is TaskState.COMPLETED, task
        assert verifier.verify(task.circuit, task.proof or b"", task.public_inputs), task


def check_recorded_once(network: Network, tasks: Mapping[str, Task]) -> None:
    """Assert that PostgreSQL holds exactly these results, each accepted once, with its attempt and worker."""
    ids = list(tasks)

    def caught_up() -> bool:
        (row,) = network.rows(
            "SELECT count(*) AS ended FROM tasks WHERE id = ANY(%s) AND finished_at IS NOT NULL", ids
        )
        return bool(row["ended"] == len(ids))

    eventually("the projection of every task", caught_up)
    recorded = network.rows("SELECT id, state, attempt, worker_id, proof FROM tasks WHERE id = ANY(%s)", ids)
    assert sorted(row["id"] for row in recorded) == sorted(ids)
    accepted = network.rows(
        "SELECT task_id, attempt, worker_id FROM attempts WHERE state = 'completed' AND task_id = ANY(%s)", ids
    )
    assert sorted(row["task_id"] for row in accepted) == sorted(ids)
    results = {row["task_id"]: (row["attempt"], row["worker_id"]) for row in accepted}
    for row in recorded:
        task = tasks[row["id"]]
        assert row["state"] == "completed"
        assert bytes(row["proof"]) == task.proof
        assert results[task.id] == (row["attempt"], row["worker_id"]) == (task.attempt, task.worker_id)


class Load:
    """Submits one small task after another until the context ends, and keeps the accepted ids."""

    def __init__(self, client: TaskClient) -> None:
        self._client = client
        self._task: asyncio.Task[None] | None = None
        self.accepted: list[str] = []

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        (outcome,) = await asyncio.gather(self._task, return_exceptions=True)
        if error is None and isinstance(outcome, Exception):
            raise outcome

    async def more(self, count: int) -> None:
        """Wait until `count` more have been accepted."""
        wanted = len(self.accepted) + count
        async with asyncio.timeout(WAIT_TIMEOUT_S):
            while len(self.accepted) < wanted:
                assert self._task is not None
                if self._task.done():
                    self._task.result()
                await asyncio.sleep(_LOAD_PAUSE_S)

    async def _run(self) -> None:
        while True:
            answer = await self._client.submit(submission())
            self.accepted.append(answer.task.id)
            await asyncio.sleep(_LOAD_PAUSE_S)
