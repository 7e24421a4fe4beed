"""The public API of the client library: `from zkp.client import Client`."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pki.tls.material import TlsFiles, TlsMaterial
from zkp.client.leader import LeaderConnection
from zkp.client.model import Submission, Task, TaskState
from zkp.client.tasks import DEFAULT_TIMEOUT_S, TaskClient
from zkp.proofs import circuits


class Client:
    """A client of the network, as an asynchronous context manager.

    It finds the leader among the coordinators, follows it across failovers, and repeats calls whose outcome is
    unknown. Methods raise a `ClientError` (`zkp.client.errors`): `NoLeader` when no leader answered in time,
    `Refused` when the certificate does not permit the call, `Exhausted` when the network is at capacity.

    Args:
        addresses: gRPC addresses of the coordinators, HOST:PORT; one that is up is enough.
        identity_directory: directory with `certificate.pem`, `key.pem` and `ca.pem`.
        timeout: seconds until a call is given up for lack of a leader.

    Raises:
        InvalidAddress: an address is not HOST:PORT.
        TlsError: the identity is missing, invalid or expired.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        identity_directory: Path | str,
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        material = TlsMaterial.load(TlsFiles.in_directory(Path(identity_directory)))
        self._connection = LeaderConnection(addresses, material)
        self._tasks = TaskClient(self._connection, timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End every call and close the connections."""
        await self._connection.close()

    @property
    def tasks(self) -> TaskClient:
        """The complete task API: pipelines, pages and watches."""
        return self._tasks

    async def submit(
        self,
        circuit: str,
        inputs: Mapping[str, object],
        *,
        task_id: str | None = None,
        max_retries: int | None = None,
    ) -> Task:
        """Submit a task and return it as accepted by a quorum.

        Args:
            circuit: name of the circuit, such as "addition".
            inputs: fields of the circuit's request, such as `{"a": 20, "b": 22}`. They leave this process only over
                mutual TLS, and no error repeats them.
            task_id: idempotency key; the same submission with the same id is the same task. Random by default.
            max_retries: retries of a failed attempt, 0–10; by default the coordinator's.

        Raises:
            CircuitError: the circuit is unknown.
            InputError: an input is missing or invalid; `field` names it.
            AlreadyExists: another submission has this task id.
        """
        # Up to ten seconds of CPU time for the largest Merkle tree.
        prepared = await asyncio.to_thread(circuits.prepare, circuit, inputs)
        submission = Submission(
            task_id if task_id is not None else str(uuid.uuid4()),
            circuit,
            prepared.inputs,
            prepared.public_inputs,
            max_retries,
        )
        return (await self._tasks.submit(submission)).task

    async def wait(self, task_id: str) -> Task:
        """Wait until the task is completed, failed or cancelled, and return it.

        There is no time limit; wrap the call in `asyncio.timeout` to set one.

        Raises:
            NotFound: there is no such task.
        """
        return await self._tasks.wait(task_id)

    async def get(self, task_id: str) -> Task:
        """Return the task in its current state.

        Raises:
            NotFound: there is no such task.
        """
        return await self._tasks.get(task_id)

    async def list(self, *, state: TaskState | None = None, circuit: str = "", limit: int = 100) -> tuple[Task, ...]:
        """Return at most `limit` tasks, newest first, optionally of one state or circuit."""
        return tuple([task async for task in self._tasks.list(state=state, circuit=circuit, limit=limit)])

    async def cancel(self, task_id: str) -> Task:
        """Cancel the task and return it.

        Raises:
            NotFound: there is no such task.
            Conflict: the task has already completed or failed.
        """
        return await self._tasks.cancel(task_id)
