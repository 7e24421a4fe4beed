"""Pipelined submissions over one stream, which is many times cheaper than one unary call per submission.

Submissions that arrive while a message is in flight are batched into the next one: a single submission is sent at
once, and many share the cost of a few messages.

Submissions that are unanswered when a stream breaks are sent again on the next one, in the same order. Task ids make
that safe; it is also why `duplicate` may be true for a submission that was made only once. A submission that failed
transiently is retried by itself, so that it does not delay the ones behind it.
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

_MAX_BATCH, _MAX_BATCH_BYTES = 256, 1 << 20
"""Limits of one message: submissions and their total size; a larger submission is sent alone."""
_MAX_IN_FLIGHT = 2
"""Unanswered messages: one that is being committed, one in transit."""
_RETRY_BACKOFF = Backoff(initial=0.05, ceiling=1.0, factor=1.5)


@dataclass(slots=True, eq=False)
class _Entry:
    message: pb.Submission
    outcome: asyncio.Future[Accepted]

    def resolve(self, result: pb.SubmitResult) -> None:
        """Set the outcome from the response; raises `CallFailed` when a retry may change it."""
        if result.HasField("accepted"):
            accepted = Accepted.read(result.accepted)
            if not self.outcome.done():
                self.outcome.set_result(accepted)
            return
        failure = _call_failed(result.refused)
        if failure.transient or failure.not_leader:
            raise failure
        self.fail(final_error(failure))

    def fail(self, error: ClientError) -> None:
        """Set the outcome to an error, unless it has been set or cancelled."""
        if not self.outcome.done():
            self.outcome.set_exception(error)


class SubmissionPipeline:
    """Submits over one long-lived stream to the leader; at most `window` submissions are unanswered at a time.

    Each `submit` fails `timeout` seconds after it was admitted to the window. Enter it before use; leaving ends the
    stream.
    """

    def __init__(self, connection: LeaderConnection, *, window: int, timeout: float) -> None:
        self._connection = connection
        self._timeout = timeout
        self._window = asyncio.Semaphore(window)
        self._unsent: deque[_Entry] = deque()
        self._work = asyncio.Event()
        self._retry = connection.retry(timeout)
        self._running: asyncio.Task[None] | None = None
        self._retries: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        ending = [*self._retries, *([] if self._running is None else [self._running])]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def submit(self, submission: Submission) -> Accepted:
        """See `TaskClient.submit`; waits while the window is full."""
        async with self._window:
            entry = _Entry(submission.message(), asyncio.get_running_loop().create_future())
            self._unsent.append(entry)
            self._work.set()
            try:
                async with asyncio.timeout(self._timeout):
                    return await entry.outcome
            except TimeoutError:
                raise self._retry.no_leader() from None

    async def _run(self) -> None:
        while True:
            await self._work.wait()
            self._retry = self._connection.retry(self._timeout)
            try:
                while True:
                    channel = await self._retry.channel()
                    try:
                        if channel.address != self._connection.leader:
                            await self._submit_first(channel)
                        await self._submit_over(channel)
                    except CallFailed as failure:
                        self._retry.failed(channel, failure)
            except Untrusted as error:
                self._fail_all(error)
            except NoLeader:
                if self._first_waiting() is None:  # waiting callers have their own deadlines
                    self._work.clear()
            except ClientError as error:
                self._fail_all(error)

    async def _submit_first(self, channel: Channel) -> None:
        """Submit one entry by a unary call.

        The status of a server that ends a stream during a write is lost (see `channel.py`); a unary call returns the
        redirect.
        """
        entry = self._first_waiting()
        if entry is not None:
            request = pb.SubmitTasksRequest(submissions=[entry.message])
            answer = await channel.call(lambda stubs: stubs.tasks.SubmitTasks, request, timeout=CALL_TIMEOUT_S)
            self._retry.reached(channel)
            self._resolve(entry, answer.results[0])
            self._unsent.remove(entry)

    async def _submit_over(self, channel: Channel) -> None:
        """Submit over one channel until it fails."""
        sending = _Sending(self._unsent, self._work)
        answers = channel.exchange(lambda stubs: stubs.tasks.StreamBatches, sending.messages())
        try:
            async with contextlib.aclosing(answers):
                async for answer in answers:
                    self._retry.reached(channel)
                    asked = sending.unanswered[0]
                    if len(answer.results) != len(asked):
                        raise ServerFault(
                            f"coordinator: {len(answer.results)} results for {len(asked)} submissions; see its log"
                        )
                    for entry, result in zip(asked, answer.results, strict=True):
                        self._resolve(entry, result)
                    sending.answered()
        finally:
            sending.requeue_unanswered()
        raise stream_ended()

    def _resolve(self, entry: _Entry, result: pb.SubmitResult) -> None:
        """Apply one result; raises `CallFailed` if the coordinator is not the leader."""
        try:
            entry.resolve(result)
        except CallFailed as failure:
            if failure.not_leader:
                raise
            task = asyncio.create_task(self._retry_single(entry))
            self._retries.add(task)
            task.add_done_callback(self._retries.discard)

    async def _retry_single(self, entry: _Entry) -> None:
        """Retry one submission until it has an outcome or its caller has been cancelled."""
        request = pb.SubmitTasksRequest(submissions=[entry.message])
        for turn in itertools.count(1):
            await asyncio.sleep(_RETRY_BACKOFF.delay(turn, 0.5))
            if entry.outcome.done():
                return
            try:
                answer = await self._connection.call(
                    lambda stubs: stubs.tasks.SubmitTasks, request, timeout=self._timeout
                )
                entry.resolve(answer.results[0])
            except CallFailed:
                continue
            except ClientError as error:
                entry.fail(error)

    def _first_waiting(self) -> _Entry | None:
        """Return the first entry whose caller is still waiting."""
        while self._unsent and self._unsent[0].outcome.done():
            self._unsent.popleft()
        return self._unsent[0] if self._unsent else None

    def _fail_all(self, error: ClientError) -> None:
        while (entry := self._first_waiting()) is not None:
            entry.outcome.set_exception(error)
        self._work.clear()


class _Sending:
    """The requests of one stream; requeues the unanswered ones when the stream has ended."""

    def __init__(self, unsent: deque[_Entry], work: asyncio.Event) -> None:
        self._unsent = unsent
        self._work = work
        self._over = False
        self.unanswered: deque[list[_Entry]] = deque()

    async def messages(self) -> AsyncIterator[pb.SubmitTasksRequest]:
        # gRPC may keep this iterator waiting after its call has ended; it must not take entries of the next stream.
        while not self._over:
            batch = self._next_batch() if len(self.unanswered) < _MAX_IN_FLIGHT else []
            if batch:
                self.unanswered.append(batch)
                yield pb.SubmitTasksRequest(submissions=[entry.message for entry in batch])
            else:
                self._work.clear()
                await self._work.wait()

    def answered(self) -> None:
        """Report that every entry of the oldest message has an outcome."""
        self.unanswered.popleft()
        self._work.set()

    def requeue_unanswered(self) -> None:
        self._over = True
        while self.unanswered:
            for entry in reversed(self.unanswered.pop()):
                if not entry.outcome.done():
                    self._unsent.appendleft(entry)
        self._work.set()  # wakes a waiting iterator, which ends, and lets a new stream begin

    def _next_batch(self) -> list[_Entry]:
        batch: list[_Entry] = []
        size = 0
        while self._unsent and len(batch) < _MAX_BATCH:
            entry = self._unsent[0]
            size += entry.message.ByteSize()
            if batch and size > _MAX_BATCH_BYTES:
                break
            self._unsent.popleft()
            if not entry.outcome.done():  # skip entries whose caller was cancelled
                batch.append(entry)
        return batch


def _call_failed(refused: pb.Refusal) -> CallFailed:
    try:
        code = grpc.StatusCode[refused.status]
    except KeyError:
        code = grpc.StatusCode.UNKNOWN
    return CallFailed(code, refused.message, {FIELD_METADATA: refused.field})
