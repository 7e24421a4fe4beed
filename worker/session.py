"""One worker with one leader: registered, heard from at every interval, given tasks over one stream.

A session ends with the failure that ended it; whoever runs it finds the next leader and begins another.
What the worker holds does not belong to a session and outlives it.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import grpc

from worker.attempt_runner import AttemptRunner
from worker.job import AttemptId, Job
from zkp.client.channel import Channel
from zkp.client.failures import CallFailed, stream_ended
from zkp.protocol.v1 import coordinator_pb2 as pb

log = logging.getLogger("zkp.worker")

_CALL_TIMEOUT_S = 5.0
_SHORTEST_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker says of itself when it registers. `incarnation` is new at every process start."""

    worker_id: str
    incarnation: str
    capacity: int
    verifying_keys: Mapping[str, str]
    version: str


@dataclass(frozen=True, slots=True)
class Registration:
    """With which leader, and what it said: seconds between heartbeats, and of silence that it forgives."""

    address: str
    interval: float
    lease: float


class Session:
    """Serves over `line` until something ends it. `draining`: once set, no more tasks are received."""

    def __init__(
        self, line: Channel, membership: WorkerInfo, workbench: AttemptRunner, draining: asyncio.Event
    ) -> None:
        self._line = line
        self._me = membership
        self._workbench = workbench
        self._draining = draining
        self.settled = False
        """The leader has answered a heartbeat, so that this is more than a flicker."""

    async def run(self, registered: Callable[[Registration], None], before: Registration | None = None) -> None:
        """Raises the `CallFailed` that ended it. Calls `registered` once the leader knows us.

        before: an earlier session's registration. The same leader knows us then, and what it has assigned meanwhile
        is not lost, as it would be by registering without it.
        """
        if before is not None and before.address == self._line.address:
            now = before
        else:
            now = await self._register()
        registered(now)
        await first_of(self._send_heartbeats(now.interval, now.lease), self._receive())

    async def _register(self) -> Registration:
        request = pb.RegisterWorkerRequest(
            worker_id=self._me.worker_id,
            incarnation=self._me.incarnation,
            capacity=self._me.capacity,
            circuits=[
                pb.CircuitKey(circuit=circuit, verifying_key_sha256=key)
                for circuit, key in self._me.verifying_keys.items()
            ],
            held=[attempt.message() for attempt in self._workbench.held()],
            version=self._me.version,
        )
        answer = await self._line.call(lambda stubs: stubs.workers.RegisterWorker, request, timeout=_CALL_TIMEOUT_S)
        self._drop(answer.dropped)
        interval = max(answer.heartbeat_interval_ms / 1000, _SHORTEST_INTERVAL_S)
        return Registration(self._line.address, interval, answer.lease_ms / 1000)

    async def _send_heartbeats(self, interval: float, lease: float) -> None:
        clock = asyncio.get_running_loop().time
        heard = clock()
        while True:
            await asyncio.sleep(interval)
            request = pb.HeartbeatRequest(
                worker_id=self._me.worker_id,
                incarnation=self._me.incarnation,
                held=[attempt.message() for attempt in self._workbench.held()],
            )
            try:
                answer = await self._line.call(
                    lambda stubs: stubs.workers.SendHeartbeat, request, timeout=max(interval, 1.0)
                )
            except CallFailed as failure:
                # A slow answer is no reason to register anew, which may cost leases; a lapsed lease is.
                if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED and clock() - heard < lease:
                    continue
                raise
            heard = clock()
            self.settled = True
            self._drop(answer.dropped)

    async def _receive(self) -> None:
        """Accept assignments until the worker drains; after that, leave the session to the heartbeats."""
        if not self._draining.is_set():
            await first_of(self._read_assignments(), self._until_draining())
        await asyncio.Event().wait()

    async def _read_assignments(self) -> None:
        request = pb.ReceiveTasksRequest(worker_id=self._me.worker_id, incarnation=self._me.incarnation)
        stream = self._line.stream(lambda stubs: stubs.workers.ReceiveTasks, request)
        async with aclosing(stream):
            async for assignment in stream:
                self._workbench.accept(Job.read(assignment))
        raise stream_ended()

    async def _until_draining(self) -> None:
        await self._draining.wait()

    def _drop(self, attempts: Iterable[pb.Attempt]) -> None:
        self._workbench.drop(AttemptId(attempt.task_id, attempt.attempt) for attempt in attempts)


async def first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run side by side until one ends; end the others, and raise what it raised."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
