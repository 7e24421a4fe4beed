"""Making submissions out of bodies, on processes of their own: hashing a long list takes seconds of CPU.

Bounded in every direction: so many processes, so many bodies in memory (read, waiting or worked on), at most
half of those for one caller, and one process for one caller: whoever sends long lists waits for them, and
nobody else does. What does not fit is refused at once, to be sent again.
"""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import Connection

from gateway import problems
from gateway.problems import ApiProblem
from gateway.requests import PreparedRequest, read_submission
from zkp.daemon.errors import DaemonError

log = logging.getLogger("zkp.gateway")

_RETRY_S = 2.0
_WARM_UP = (b'{"leaves": [1], "leaf_index": 0}', "merkle_proof")


class _Pool:
    """Processes, and the line on which they hang.

    Nothing is ever sent on it. They hold one end of it, and end themselves when the other is closed: by
    `end`, or by the end of this process, however that came.
    """

    def __init__(self, processes: int) -> None:
        """Raises `DaemonError` when the operating system does not give what the processes share."""
        try:
            self._theirs, self._ours = multiprocessing.Pipe(duplex=False)
            self.executor = ProcessPoolExecutor(
                processes,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin_process,
                initargs=(self._theirs,),
            )
        except OSError as error:
            # The locks of `multiprocessing` are POSIX semaphores, which are files below /dev/shm: sem_overview(7).
            raise DaemonError(
                f"processes that prepare submissions: they cannot share a lock ({error.strerror}); "
                "mount /dev/shm writable for the gateway's user, and raise its limit of open files if that is used up"
            ) from None

    def end(self) -> None:
        """End the processes, whatever they are at. Submit nothing afterwards."""
        self._ours.close()
        self._theirs.close()


def _begin_process(lifeline: Connection) -> None:
    """The gateway decides when its processes end, and none outlives it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(lifeline,), daemon=True).start()


def _end_with(lifeline: Connection) -> None:
    lifeline.poll(None)  # returns at the end of the file alone
    os._exit(0)


class SubmissionPool:
    """Runs `read_submission` elsewhere. `capacity`: bodies in memory at a time."""

    def __init__(self, processes: int, capacity: int) -> None:
        """Raises `DaemonError` when the processes cannot be set up."""
        self._processes = processes
        self._capacity = capacity
        self._closing = False
        self._pool = _Pool(processes)
        self._held: Counter[str] = Counter()
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def start(self) -> None:
        """Start every process, so that no request waits for one. Raises `DaemonError`."""
        loop = asyncio.get_running_loop()
        work = partial(read_submission, *_WARM_UP, keyed=False)
        try:
            await asyncio.gather(*(loop.run_in_executor(self._pool.executor, work) for _ in range(self._processes)))
        except BrokenProcessPool:
            detail = "cannot start the processes that prepare submissions: check the free memory"
            raise DaemonError(detail) from None

    async def close(self) -> None:
        """End the processes, whatever they are at: whoever waited for it has been answered, or has gone."""
        self._closing = True
        self._pool.end()
        await asyncio.to_thread(self._pool.executor.shutdown, cancel_futures=True)

    @property
    def held(self) -> int:
        """Bodies in memory now."""
        return self._held.total()

    @contextlib.contextmanager
    def place(self, caller: str) -> Iterator["Reservation"]:
        """Room for one body, from before it is read until nobody works on it any more.

        Raises a `ApiProblem` when there is none. A caller that hangs up keeps its place until the work ends.
        """
        if self.held >= self._capacity:
            raise _busy(f"{self._capacity} submissions are being prepared, which is the limit; try again")
        share = max(1, self._capacity // 2)
        if self._held[caller] >= share:
            raise _busy(
                f"{share} submissions of this caller are being prepared, which is the limit; wait for their answers"
            )
        self._held[caller] += 1
        place = Reservation(self, caller)
        try:
            yield place
        finally:
            if place.work is None or place.work.done():
                self._release(caller)
            else:
                place.work.add_done_callback(lambda _: self._release(caller))

    async def begin(self, caller: str, work: Callable[[], PreparedRequest]) -> asyncio.Future[PreparedRequest]:
        """Run `work` on one of the processes when it is the caller's turn; for `Reservation`."""
        turn = self._turns[caller]
        await turn.acquire()
        try:
            future = self._submit(work)
        except BaseException:
            turn.release()
            raise
        future.add_done_callback(lambda _: turn.release())
        return future

    def _submit(self, work: Callable[[], PreparedRequest]) -> asyncio.Future[PreparedRequest]:
        loop, pool = asyncio.get_running_loop(), self._pool
        try:
            future = loop.run_in_executor(pool.executor, work)
        except BrokenProcessPool:  # while nobody asked for anything
            pool = self._replace(pool)
            future = loop.run_in_executor(pool.executor, work)
        future.add_done_callback(lambda done: self._ended(pool, done))
        return future

    def _ended(self, pool: _Pool, work: asyncio.Future[PreparedRequest]) -> None:
        # Looks at the exception, too: nobody else may be waiting any more.
        lost = not work.cancelled() and isinstance(work.exception(), BrokenProcessPool)
        if lost and not self._closing:
            self._replace(pool)

    def _release(self, caller: str) -> None:
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
            self._turns.pop(caller, None)

    def _replace(self, broken: _Pool) -> _Pool:
        if self._pool is broken:
            log.error("process that prepares submissions was lost; starting others")
            self._pool = _Pool(self._processes)
            broken.end()
            broken.executor.shutdown(wait=False)
        return self._pool


class Reservation:
    """One body's place; see `Preparation.place`."""

    def __init__(self, preparation: SubmissionPool, caller: str) -> None:
        self._preparation = preparation
        self._caller = caller
        self.work: asyncio.Future[PreparedRequest] | None = None

    async def submission(self, body: bytes, circuit: str | None, *, keyed: bool) -> PreparedRequest:
        """See `read_submission`; raises a `ApiProblem` of kind BUSY too. Once for each place."""
        reading = partial(read_submission, body, circuit, keyed=keyed)
        self.work = await self._preparation.begin(self._caller, reading)
        try:
            return await asyncio.shield(self.work)
        except BrokenProcessPool:
            raise _busy("a process that prepares submissions was lost; try again") from None


def _busy(detail: str) -> ApiProblem:
    return ApiProblem(problems.BUSY, detail, retry_after=_RETRY_S)
