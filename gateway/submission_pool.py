"""Process pool that prepares submissions from request bodies: hashing a long list takes seconds of CPU.

Bounded: a fixed number of processes, a fixed number of bodies in memory (being received, queued or processed), at
most half of those per caller, and one process per caller at a time, so that a caller with long lists delays only
itself. Requests beyond these bounds are rejected at once and can be retried.
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


class _ProcessPool:
    """Processes that exit when a pipe from their parent is closed.

    Nothing is sent through the pipe. Each process holds its read end, and exits when the write end is closed: by
    `terminate`, or by the operating system when this process ends, for whatever reason.
    """

    def __init__(self, processes: int) -> None:
        """Create the pool.

        Raises:
            DaemonError: The operating system cannot create the shared locks.
        """
        try:
            self._child_end, self._parent_end = multiprocessing.Pipe(duplex=False)
            self.executor = ProcessPoolExecutor(
                processes,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_initialize_process,
                initargs=(self._child_end,),
            )
        except OSError as error:
            # The locks of `multiprocessing` are POSIX semaphores, which are files below /dev/shm: sem_overview(7).
            raise DaemonError(
                f"submission pool: cannot create a shared lock ({error.strerror}); "
                "make /dev/shm writable for the gateway's user, or raise its limit of open files"
            ) from None

    def terminate(self) -> None:
        """Terminate the processes, even at work. Submit nothing afterwards."""
        self._parent_end.close()
        self._child_end.close()


def _initialize_process(lifeline: Connection) -> None:
    """Ignore signals, which the gateway handles, and exit with the gateway."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, args=(lifeline,), daemon=True).start()


def _exit_with_parent(lifeline: Connection) -> None:
    lifeline.poll(None)  # returns only at the end of the file
    os._exit(0)


class SubmissionPool:
    """Runs `read_submission` in other processes, for up to `capacity` bodies in memory at a time."""

    def __init__(self, processes: int, capacity: int) -> None:
        """Create the pool.

        Raises:
            DaemonError: The processes cannot be set up.
        """
        self._processes = processes
        self._capacity = capacity
        self._closing = False
        self._pool = _ProcessPool(processes)
        self._bodies: Counter[str] = Counter()
        self._caller_locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def start(self) -> None:
        """Start all processes, so that no request waits for a start.

        Raises:
            DaemonError: A process cannot start.
        """
        loop = asyncio.get_running_loop()
        work = partial(read_submission, *_WARM_UP, keyed=False)
        try:
            await asyncio.gather(*(loop.run_in_executor(self._pool.executor, work) for _ in range(self._processes)))
        except BrokenProcessPool:
            detail = "submission pool: cannot start its processes; check that enough memory is free"
            raise DaemonError(detail) from None

    async def close(self) -> None:
        """Terminate the processes, even at work; every caller has been answered or has disconnected."""
        self._closing = True
        self._pool.terminate()
        await asyncio.to_thread(self._pool.executor.shutdown, cancel_futures=True)

    @property
    def bodies(self) -> int:
        """Number of bodies in memory."""
        return self._bodies.total()

    @contextlib.contextmanager
    def reserve(self, caller: str) -> Iterator["Reservation"]:
        """Reserve memory for one body, from before it is received until its work has ended.

        A caller that disconnects keeps its reservation until the work ends.

        Raises:
            ApiProblem: BUSY; no capacity is left, or the caller uses its share.
        """
        if self.bodies >= self._capacity:
            raise _busy(f"gateway: {self._capacity} submissions are already being prepared; retry")
        share = max(1, self._capacity // 2)
        if self._bodies[caller] >= share:
            raise _busy(f"caller: {share} of your submissions are already being prepared; wait for their responses")
        self._bodies[caller] += 1
        reservation = Reservation(self, caller)
        try:
            yield reservation
        finally:
            if reservation.work is None or reservation.work.done():
                self._release(caller)
            else:
                reservation.work.add_done_callback(lambda _: self._release(caller))

    async def start_work(self, caller: str, work: Callable[[], PreparedRequest]) -> asyncio.Future[PreparedRequest]:
        """Run `work` in one of the processes once the caller's previous work has ended; called by `Reservation`."""
        lock = self._caller_locks[caller]
        await lock.acquire()
        try:
            future = self._submit(work)
        except BaseException:
            lock.release()
            raise
        future.add_done_callback(lambda _: lock.release())
        return future

    def _submit(self, work: Callable[[], PreparedRequest]) -> asyncio.Future[PreparedRequest]:
        loop, pool = asyncio.get_running_loop(), self._pool
        try:
            future = loop.run_in_executor(pool.executor, work)
        except BrokenProcessPool:  # it broke while idle
            pool = self._replace(pool)
            future = loop.run_in_executor(pool.executor, work)
        future.add_done_callback(lambda done: self._on_done(pool, done))
        return future

    def _on_done(self, pool: _ProcessPool, work: asyncio.Future[PreparedRequest]) -> None:
        # Also retrieves the exception: possibly no caller waits for it.
        lost = not work.cancelled() and isinstance(work.exception(), BrokenProcessPool)
        if lost and not self._closing:
            self._replace(pool)

    def _release(self, caller: str) -> None:
        self._bodies[caller] -= 1
        if not self._bodies[caller]:
            del self._bodies[caller]
            self._caller_locks.pop(caller, None)

    def _replace(self, broken: _ProcessPool) -> _ProcessPool:
        if self._pool is broken:
            log.error("submission pool lost a process; restarting the pool")
            self._pool = _ProcessPool(self._processes)
            broken.terminate()
            broken.executor.shutdown(wait=False)
        return self._pool


class Reservation:
    """Reserved memory for one body; see `SubmissionPool.reserve`."""

    def __init__(self, pool: SubmissionPool, caller: str) -> None:
        self._pool = pool
        self._caller = caller
        self.work: asyncio.Future[PreparedRequest] | None = None

    async def prepare(self, body: bytes, circuit: str | None, *, keyed: bool) -> PreparedRequest:
        """Run `read_submission` in the pool; call once per reservation.

        Raises:
            ApiProblem: As `read_submission`, or BUSY if the process was lost.
        """
        reading = partial(read_submission, body, circuit, keyed=keyed)
        self.work = await self._pool.start_work(self._caller, reading)
        try:
            return await asyncio.shield(self.work)
        except BrokenProcessPool:
            raise _busy("gateway: lost the process that prepared the submission; retry") from None


def _busy(detail: str) -> ApiProblem:
    return ApiProblem(problems.BUSY, detail, retry_after=_RETRY_S)
