"""The open assignment streams: one per worker, on the leader only.

An assignment without a stream, or whose stream was cut before it was sent, is not lost: it is sent again when the
worker opens its next stream, and if that never happens, its lease expires.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence

from coordinator.errors import Forbidden, NotFound, Superseded, Unavailable
from coordinator.state.model import EventKind, Task, TaskEvent, Worker, WorkerState


class Stream:
    """Assignments for one worker process. Holds at most `bound` that are not yet sent."""

    def __init__(self, worker_id: str, incarnation: str, bound: int) -> None:
        self.worker_id = worker_id
        self.incarnation = incarnation
        self._bound = bound
        self._waiting: deque[Task] = deque()
        self._end: Exception | None = None
        self._changed = asyncio.Event()

    @property
    def ended(self) -> bool:
        """True once `end` was called."""
        return self._end is not None

    def put(self, task: Task) -> None:
        """Queue an assignment. A worker that reads too slowly loses the stream, not the task."""
        if self._end is not None:
            return
        if len(self._waiting) >= self._bound:
            self.end(Unavailable(f"worker {self.worker_id} does not read its assignments: open the stream again"))
            return
        self._waiting.append(task)
        self._changed.set()

    def end(self, reason: Exception) -> None:
        """Make `next` raise `reason`. Unsent tasks stay assigned. Only the first reason is kept."""
        if self._end is None:
            self._end = reason
            self._waiting.clear()
            self._changed.set()

    async def next(self) -> Task:
        """Return the next assignment, with the task as it was then. Raises the reason for which the stream ended."""
        while True:
            if self._end is not None:
                raise self._end
            if self._waiting:
                return self._waiting.popleft()
            self._changed.clear()
            await self._changed.wait()


class AssignmentStreams:
    """The stream of each worker, by worker id. The dispatcher sets `on_change`, called when one opens or closes."""

    def __init__(self) -> None:
        self._streams: dict[str, Stream] = {}
        self.on_change: Callable[[], None] = lambda: None

    @property
    def connected(self) -> Collection[str]:
        """Ids of the workers that have an open stream."""
        return self._streams.keys()

    def open(self, worker: Worker, incarnation: str, undelivered: Iterable[Task]) -> Stream:
        """Open a stream for this worker process that begins with the `undelivered` tasks; an older stream ends.

        Raises:
            NotFound: this incarnation is not registered.
            Forbidden: the worker is quarantined.
        """
        check_registered(worker, worker.id, incarnation)
        older = self._streams.get(worker.id)
        if older is not None:
            older.end(Superseded(f"worker {worker.id} has opened a newer stream"))
        # A cancelled task frees its slot before the worker has read it: hence twice the slots.
        stream = Stream(worker.id, incarnation, 2 * worker.capacity)
        for task in undelivered:
            stream.put(task)
        self._streams[worker.id] = stream
        self.on_change()
        return stream

    def close(self, stream: Stream) -> None:
        """Remove a stream whose worker disconnected, or that was ended."""
        if self._streams.get(stream.worker_id) is stream:
            del self._streams[stream.worker_id]
            self.on_change()

    def observe(self, events: Sequence[TaskEvent]) -> None:
        """Queue new assignments, and end the streams of workers that are no longer registered."""
        for event in events:
            if event.kind is EventKind.TASK_ASSIGNED and event.task is not None:
                stream = self._streams.get(event.task.worker_id)
                if stream is not None:
                    stream.put(event.task)
                    if stream.ended:
                        self.close(stream)
            elif event.worker is not None:
                stream = self._streams.get(event.worker.id)
                if stream is not None:
                    self._check(stream, event.worker)

    def end_all(self, reason: Exception) -> None:
        """End all streams, because leadership ended or the process stops."""
        for stream in self._streams.values():
            stream.end(reason)
        self._streams.clear()

    def _check(self, stream: Stream, worker: Worker) -> None:
        try:
            check_registered(worker, worker.id, stream.incarnation)
        except (NotFound, Forbidden) as reason:
            stream.end(reason)
            self.close(stream)


def check_registered(worker: Worker | None, worker_id: str, incarnation: str) -> None:
    """Check that this incarnation of the worker is registered and online.

    Raises:
        NotFound: it is not.
        Forbidden: the worker is quarantined.
    """
    if worker is not None and worker.state is WorkerState.QUARANTINED:
        raise Forbidden(f"worker {worker.id} is quarantined: {worker.reason}; an operator has to release it")
    if worker is None or worker.state is not WorkerState.ONLINE or worker.incarnation != incarnation:
        raise NotFound(f"this process of worker {worker_id} is not registered: register again")
