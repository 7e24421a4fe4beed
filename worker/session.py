"""A session with one leader: registration, heartbeats, and one stream of assignments.

A session ends with the error of a call; its caller finds the next leader and starts another one. Held attempts belong
to the worker and outlive sessions.
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
_MIN_HEARTBEAT_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """The worker's registration data. `incarnation` is new at every process start."""

    worker_id: str
    incarnation: str
    capacity: int
    verifying_keys: Mapping[str, str]
    version: str


@dataclass(frozen=True, slots=True)
class Registration:
    """A registration with the leader at `address`: heartbeat interval and lease duration, in seconds."""

    address: str
    interval: float
    lease: float


class Session:
    """Serves the leader at the other end of `channel`. Once `draining` is set, it receives no more tasks."""

    def __init__(self, channel: Channel, info: WorkerInfo, runner: AttemptRunner, draining: asyncio.Event) -> None:
        self._channel = channel
        self._info = info
        self._runner = runner
        self._draining = draining
        self.heartbeat_acknowledged = False
        """The leader has answered at least one heartbeat."""

    async def run(self, registered: Callable[[Registration], None], previous: Registration | None = None) -> None:
        """Run the session until it fails.

        Args:
            registered: Called once the worker is registered.
            previous: Registration of the previous session. It is reused if the leader is the same: a new
                registration would lose tasks that the leader has assigned in the meantime.

        Raises:
            CallFailed: The error that ended the session.
        """
        if previous is not None and previous.address == self._channel.address:
            registration = previous
        else:
            registration = await self._register()
        registered(registration)
        await first_of(self._send_heartbeats(registration.interval, registration.lease), self._receive())

    async def _register(self) -> Registration:
        request = pb.RegisterWorkerRequest(
            worker_id=self._info.worker_id,
            incarnation=self._info.incarnation,
            capacity=self._info.capacity,
            circuits=[
                pb.CircuitKey(circuit=circuit, verifying_key_sha256=key)
                for circuit, key in self._info.verifying_keys.items()
            ],
            held=[attempt.to_message() for attempt in self._runner.held()],
            version=self._info.version,
        )
        answer = await self._channel.call(
            lambda stubs: stubs.workers.RegisterWorker, request, timeout=_CALL_TIMEOUT_S
        )
        self._drop(answer.dropped)
        interval = max(answer.heartbeat_interval_ms / 1000, _MIN_HEARTBEAT_INTERVAL_S)
        return Registration(self._channel.address, interval, answer.lease_ms / 1000)

    async def _send_heartbeats(self, interval: float, lease: float) -> None:
        clock = asyncio.get_running_loop().time
        last_answer = clock()
        while True:
            await asyncio.sleep(interval)
            request = pb.HeartbeatRequest(
                worker_id=self._info.worker_id,
                incarnation=self._info.incarnation,
                held=[attempt.to_message() for attempt in self._runner.held()],
            )
            try:
                answer = await self._channel.call(
                    lambda stubs: stubs.workers.SendHeartbeat, request, timeout=max(interval, 1.0)
                )
            except CallFailed as failure:
                # A slow answer does not justify a new registration, which may lose leases; an expired lease does.
                if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED and clock() - last_answer < lease:
                    continue
                raise
            last_answer = clock()
            self.heartbeat_acknowledged = True
            self._drop(answer.dropped)

    async def _receive(self) -> None:
        """Receive assignments until the worker drains; afterwards only heartbeats keep the session."""
        if not self._draining.is_set():
            await first_of(self._read_assignments(), self._wait_for_drain())
        await asyncio.Event().wait()

    async def _read_assignments(self) -> None:
        request = pb.ReceiveTasksRequest(worker_id=self._info.worker_id, incarnation=self._info.incarnation)
        stream = self._channel.stream(lambda stubs: stubs.workers.ReceiveTasks, request)
        async with aclosing(stream):
            async for assignment in stream:
                self._runner.accept(Job.from_message(assignment))
        raise stream_ended()

    async def _wait_for_drain(self) -> None:
        await self._draining.wait()

    def _drop(self, attempts: Iterable[pb.Attempt]) -> None:
        self._runner.drop(AttemptId(attempt.task_id, attempt.attempt) for attempt in attempts)


async def first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Run coroutines concurrently until one ends, cancel the others, and propagate its exception."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
