"""Many submissions on one stream, which is many times cheaper than a call for each.

What comes while a message is on its way goes together in the next: a lone submission sets out at once, and a crowd
shares the cost of few messages.

What was sent and not answered when a stream breaks is sent again on the next one, in the same order. Task
ids make that safe; it is also why `duplicate` may be true for a submission that was made only once. What may be
accepted later, and is not now, is asked for by itself, and holds up nobody behind it.
"""

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc

from zkp.client.backoff import Backoff
from zkp.client.channel import Channel
from zkp.client.errors import ClientError, NoLeader, ServerFault, Untrusted
from zkp.client.failures import FIELD_METADATA, CallFailed, final_error, stream_ended
from zkp.client.leader import CALL_TIMEOUT_S, LeaderConnection
from zkp.client.model import Accepted, Submission
from zkp.protocol.v1 import coordinator_pb2 as pb

_BATCH, _BATCH_BYTES = 256, 1 << 20
"""At most so many submissions in a message, of so many bytes together; a larger one goes by itself."""
_ON_THE_WAY = 2
"""Messages without an answer: one is being agreed on, one on its way."""
_AGAIN = Backoff(initial=0.05, ceiling=1.0, factor=1.5)


@dataclass(slots=True, eq=False)
class _Entry:
    message: pb.Submission
    outcome: asyncio.Future[Accepted]

    def settle(self, result: pb.SubmitResult) -> None:
        """Take the coordinator's word; raises `CallFailed` when it may change its mind."""
        if result.HasField("accepted"):
            accepted = Accepted.read(result.accepted)
            if not self.outcome.done():
                self.outcome.set_result(accepted)
            return
        failure = _refusal(result.refused)
        if failure.passing or failure.not_leader:
            raise failure
        self.fail(final_error(failure))

    def fail(self, error: ClientError) -> None:
        """There is no better answer than this."""
        if not self.outcome.done():
            self.outcome.set_exception(error)


class SubmissionPipeline:
    """Submits over one long stream to the leader; at most `window` submissions are unanswered at a time.

    Each `submit` gives up `timeout` seconds after its turn came. Enter it before use; leaving ends the
    stream.
    """

    def __init__(self, connection: LeaderConnection, *, window: int, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self._window = asyncio.Semaphore(window)
        self._unsent: deque[_Entry] = deque()
        self._work = asyncio.Event()
        self._route = connection.route(timeout)
        self._running: asyncio.Task[None] | None = None
        self._aside: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = [*self._aside, *([] if self._running is None else [self._running])]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def submit(self, submission: Submission) -> Accepted:
        """See `TaskClient.submit`; waits for its turn when the window is full."""
        async with self._window:
            entry = _Entry(submission.message(), asyncio.get_running_loop().create_future())
            self._unsent.append(entry)
            self._work.set()
            try:
                async with asyncio.timeout(self._timeout):
                    return await entry.outcome
            except TimeoutError:
                raise self._route.no_leader() from None

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._route = self._connection.route(self._timeout)
            try:
                while True:
                    line = await self._route.line()
                    try:
                        if line.address != self._connection.leader:
                            await self._submit_first(line)
                        await self._submit_over(line)
                    except CallFailed as failure:
                        self._route.failed(line, failure)
            except Untrusted as error:
                self._fail_all(error)
            except NoLeader:
                if self._next() is None:  # those who wait have deadlines of their own
                    self._work.clear()
            except ClientError as error:
                self._fail_all(error)

    async def _submit_first(self, line: Channel) -> None:
        """Submit one by itself: who ends a stream while it is written to cannot say why (see `channel.py`)."""
        entry = self._next()
        if entry is not None:
            request = pb.SubmitTasksRequest(submissions=[entry.message])
            answer = await line.call(lambda stubs: stubs.tasks.SubmitTasks, request, timeout=CALL_TIMEOUT_S)
            self._route.reached(line)
            self._settle(entry, answer.results[0])
            self._unsent.remove(entry)

    async def _submit_over(self, line: Channel) -> None:
        """Submit over one line until it fails."""
        sending = _Sending(self._unsent, self._work)
        answers = line.exchange(lambda stubs: stubs.tasks.StreamBatches, sending.messages())
        try:
            async with contextlib.aclosing(answers):
                async for answer in answers:
                    self._route.reached(line)
                    asked = sending.unanswered[0]
                    if len(answer.results) != len(asked):
                        raise ServerFault(f"{len(asked)} submissions had {len(answer.results)} answers; see its log")
                    for entry, result in zip(asked, answer.results, strict=True):
                        self._settle(entry, result)
                    sending.answered()
        finally:
            sending.take_back()
        raise stream_ended()

    def _settle(self, entry: _Entry, result: pb.SubmitResult) -> None:
        """Take the coordinator's word; raises `CallFailed` when it does not lead."""
        try:
            entry.settle(result)
        except CallFailed as failure:
            if failure.not_leader:
                raise
            task = asyncio.create_task(self._ask_alone(entry))
            self._aside.add(task)
            task.add_done_callback(self._aside.discard)

    async def _ask_alone(self, entry: _Entry) -> None:
        """Ask for one by itself until it has an outcome, or nobody waits for it any more."""
        request = pb.SubmitTasksRequest(submissions=[entry.message])
        for turn in itertools.count(1):
            await asyncio.sleep(_AGAIN.delay(turn, 0.5))
            if entry.outcome.done():
                return
            try:
                answer = await self._connection.call(
                    lambda stubs: stubs.tasks.SubmitTasks, request, timeout=self._timeout
                )
                entry.settle(answer.results[0])
            except CallFailed:
                continue
            except ClientError as error:
                entry.fail(error)

    def _next(self) -> _Entry | None:
        """The first that somebody still waits for."""
        while self._unsent and self._unsent[0].outcome.done():
            self._unsent.popleft()
        return self._unsent[0] if self._unsent else None

    def _fail_all(self, error: ClientError) -> None:
        while (entry := self._next()) is not None:
            entry.outcome.set_exception(error)
        self._work.clear()


class _Sending:
    """The requests of one stream; gives back what was not answered when the stream is over."""

    def __init__(self, unsent: deque[_Entry], work: asyncio.Event) -> None:
        self._unsent = unsent
        self._work = work
        self._over = False
        self.unanswered: deque[list[_Entry]] = deque()

    async def messages(self) -> AsyncIterator[pb.SubmitTasksRequest]:
        # gRPC may leave this iterator waiting after its call has ended: it must not take another's entries.
        while not self._over:
            batch = self._next_batch() if len(self.unanswered) < _ON_THE_WAY else []
            if batch:
                self.unanswered.append(batch)
                yield pb.SubmitTasksRequest(submissions=[entry.message for entry in batch])
            else:
                self._work.clear()
                await self._work.wait()

    def answered(self) -> None:
        """Every entry of the oldest message has been settled."""
        self.unanswered.popleft()
        self._work.set()

    def take_back(self) -> None:
        self._over = True
        while self.unanswered:
            for entry in reversed(self.unanswered.pop()):
                if not entry.outcome.done():
                    self._unsent.appendleft(entry)
        self._work.set()  # lets a waiting iterator end, and a new stream begin

    def _next_batch(self) -> list[_Entry]:
        batch: list[_Entry] = []
        size = 0
        while self._unsent and len(batch) < _BATCH:
            entry = self._unsent[0]
            size += entry.message.ByteSize()
            if batch and size > _BATCH_BYTES:
                break
            self._unsent.popleft()
            if not entry.outcome.done():  # or nobody waits for it any more
                batch.append(entry)
        return batch


def _refusal(refused: pb.Refusal) -> CallFailed:
    try:
        code = grpc.StatusCode[refused.status]
    except KeyError:
        code = grpc.StatusCode.UNKNOWN
    return CallFailed(code, refused.message, {FIELD_METADATA: refused.field})
