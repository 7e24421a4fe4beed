"""The load generator: so many requests outstanding, each answer followed by the next request at once.

One process, one event loop, one connection, grpc.aio; the same code for both clusters. Requests are bytes made from
a template and answers are checked, but not taken apart, so that the generator takes as little of the machine as it
can: it runs beside the six processes that it measures.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from pki.tls.material import TlsFiles, TlsMaterial
from tests.bench.raft import etcd, payload
from tests.bench.raft.coordinators import CIRCUIT
from tests.bench.raft.processes import BenchError
from zkp.client.leader import LeaderConnection
from zkp.client.model import Submission
from zkp.client.streaming import StreamingTaskClient
from zkp.protocol.v1 import coordinator_pb2 as pb

Request = Callable[[], Awaitable[int]]
"""One request and its answer; how many tasks were accepted."""

SUBMIT = "/zkp.v1.TaskService/SubmitTask"
SUBMIT_MANY = "/zkp.v1.TaskService/SubmitTasks"
STREAM = "/zkp.v1.TaskService/StreamSubmissions"
_ACCEPTED = b"\x0a"  # the tag of SubmitResult.accepted
_PATIENCE_S = 10.0
WARM_UP_S = 0.5


@dataclass(slots=True)
class Load:
    """What was accepted while the clock ran, and how long each request took (seconds)."""

    tasks: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return self.tasks / self.seconds

    def quantile(self, share: float) -> float:
        """Seconds within which this share of the requests was answered."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class _Clock:
    """Counts what is answered between the end of the warm-up and the end."""

    def __init__(self, seconds: float) -> None:
        self.load = Load(seconds=seconds)
        self._begin = time.perf_counter() + WARM_UP_S
        self._end = self._begin + seconds

    @property
    def over(self) -> bool:
        return time.perf_counter() >= self._end

    def answered(self, asked_at: float, tasks: int) -> None:
        now = time.perf_counter()
        if self._begin <= now < self._end:
            self.load.tasks += tasks
            self.load.latencies.append(now - asked_at)


async def closed_loop(request: Request, outstanding: int, seconds: float) -> Load:
    """Keep `outstanding` requests on their way."""
    clock = _Clock(seconds)

    async def caller() -> None:
        while not clock.over:
            asked_at = time.perf_counter()
            clock.answered(asked_at, await request())

    await asyncio.gather(*(caller() for _ in range(outstanding)))
    return clock.load


async def so_many(request: Request, outstanding: int, times: int) -> None:
    """Make this many requests, however long that takes."""
    left = iter(range(times))

    async def caller() -> None:
        for _ in left:
            await request()

    await asyncio.gather(*(caller() for _ in range(outstanding)))


async def one_stream(channel: grpc.aio.Channel, outstanding: int, seconds: float) -> Load:
    """Single submissions on one bidirectional stream, so many of them unanswered."""
    clock = _Clock(seconds)
    task_ids, make = payload.ids(), payload.quickly(payload.submission)
    asked: deque[float] = deque()
    room = asyncio.Semaphore(outstanding)

    async def submissions() -> AsyncIterator[bytes]:
        while not clock.over:
            await room.acquire()
            asked.append(time.perf_counter())
            yield make(next(task_ids))

    stream: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(STREAM)
    async for result in stream(submissions()):
        if result[:1] != _ACCEPTED:
            raise BenchError(f"a submission was refused: {pb.SubmitResult.FromString(result)}")
        room.release()
        clock.answered(asked.popleft(), 1)
    return clock.load


async def one_client(addresses: Sequence[str], identity: Path, outstanding: int, seconds: float) -> Load:
    """The client library as the gateway and `zkp` use it: single submissions, which share messages on their way."""
    prepared = payload.prepared()
    task_ids = payload.ids()
    material = TlsMaterial.load(TlsFiles.in_directory(identity))
    async with LeaderConnection(addresses, material) as leader, StreamingTaskClient(leader) as client:

        async def request() -> int:
            await client.submit(Submission(next(task_ids), CIRCUIT, prepared.inputs, prepared.public_inputs))
            return 1

        return await closed_loop(request, outstanding, seconds)


def put(channel: grpc.aio.Channel) -> Request:
    """etcd: one put a call."""
    return _single(channel, etcd.PUT, payload.quickly(payload.put))


def submit(channel: grpc.aio.Channel) -> Request:
    """Ours: one submission a call."""
    return _single(channel, SUBMIT, payload.quickly(payload.submit_request))


def transaction(channel: grpc.aio.Channel) -> Request:
    """etcd: a hundred puts a call."""
    return _batch(channel, etcd.TRANSACTION, payload.transaction_request, _puts_done)


def submit_many(channel: grpc.aio.Channel) -> Request:
    """Ours: a hundred submissions a call."""
    return _batch(channel, SUBMIT_MANY, payload.batch_request, _accepted)


def _single(channel: grpc.aio.Channel, method: str, make: Callable[[str], bytes]) -> Request:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    task_ids = payload.ids()

    async def request() -> int:
        await call(make(next(task_ids)), timeout=_PATIENCE_S)
        return 1

    return request


def _batch(
    channel: grpc.aio.Channel,
    method: str,
    make: Callable[[Iterator[str]], bytes],
    check: Callable[[bytes], int],
) -> Request:
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(method)
    task_ids = payload.ids()

    async def request() -> int:
        return check(await call(make(task_ids), timeout=_PATIENCE_S))

    return request


def _puts_done(answer: bytes) -> int:
    done = etcd.messages.TransactionAnswer.FromString(answer)
    if not done.succeeded or len(done.responses) != payload.BATCH:
        raise BenchError("etcd refused a transaction")
    return payload.BATCH


def _accepted(answer: bytes) -> int:
    results = pb.SubmitTasksResponse.FromString(answer).results
    if len(results) != payload.BATCH or not all(result.HasField("accepted") for result in results):
        raise BenchError("some submissions of a batch were refused")
    return payload.BATCH
