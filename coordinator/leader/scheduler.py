"""Scheduler: decide which pending task goes to which worker, as `Assign` commands for the leader to propose.

Pure. The cost of a round grows with the workers and the assignments made, not with the length of the queue: pending
tasks are kept in one queue per circuit, so that a circuit without a free worker does not block the others.
"""

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from coordinator.state.commands import Assign
from coordinator.state.machine import State
from coordinator.state.model import EventKind, TaskEvent, TaskState, WorkerState

_MAX_LOOKAHEAD = 64  # tasks of one queue that may wait for a better worker before the queue has to wait as a whole


class PendingTasks:
    """Ids of the pending tasks in one queue per circuit, each in the order of the replicated queue.

    Positions compare across lines: the task that has waited longest has the smallest. A long queue takes seconds to
    read, so that `read` takes it in parts; `lines` reads what is left.
    """

    def __init__(self, state: State) -> None:
        self._queues: dict[str, OrderedDict[str, int]] = {}
        self._last = 0
        self._first = 0
        self._tasks = state.tasks
        self._unread: Iterator[str] | None = iter(list(state.queue))
        self._postponed: list[TaskEvent] = []
        """Events since reading began; they are applied after it."""

    def read(self, count: int | None = None) -> bool:
        """Read up to `count` more tasks of the queue (None: all), and return whether it is read to the end."""
        if self._unread is None:
            return True
        read = 0
        for task_id in itertools.islice(self._unread, count):
            read += 1
            task = self._tasks.get(task_id)
            if task is not None:  # otherwise it ended and was evicted since
                self._append(task.circuit, task_id)
        if read == count:
            return False
        self._unread = None
        postponed, self._postponed = self._postponed, []
        self.observe(postponed)
        return True

    def observe(self, events: Sequence[TaskEvent]) -> None:
        """Update the queues as the state machine does: new tasks at the end, requeued ones at the head."""
        if self._unread is not None:
            self._postponed.extend(events)
            return
        for event in events:
            task = event.task
            if task is None:
                continue
            if event.kind is EventKind.TASK_SUBMITTED:
                self._append(task.circuit, task.id)
            elif event.kind is EventKind.TASK_REQUEUED:
                self._first -= 1
                queue = self._queues.setdefault(task.circuit, OrderedDict())
                queue[task.id] = self._first
                queue.move_to_end(task.id, last=False)
            elif task.state is not TaskState.PENDING:
                queue = self._queues.get(task.circuit, OrderedDict())
                queue.pop(task.id, None)

    def queues(self) -> Iterator[tuple[str, Iterator[tuple[str, int]]]]:
        """Yield (circuit, its (task id, position) in order) for every circuit that has pending tasks."""
        self.read()
        for circuit, queue in self._queues.items():
            if queue:
                yield circuit, iter(queue.items())

    def _append(self, circuit: str, task_id: str) -> None:
        self._last += 1
        self._queues.setdefault(circuit, OrderedDict())[task_id] = self._last


@dataclass(slots=True)
class _WorkerSlots:
    """Free slots of the workers that can be assigned tasks now, the least loaded first."""

    capacity: dict[str, int]
    busy: dict[str, int]
    capable: dict[str, set[str]]
    """Circuit → all connected workers that can prove it, free or not."""
    _heaps: dict[str, list[tuple[float, str]]] = field(default_factory=dict)

    def take(self, circuit: str, avoid: str | None) -> str | None:
        """Occupy a slot of the least loaded worker other than `avoid`; None when there is none.

        The avoided worker is taken after all when it is the only one connected that can prove the circuit.
        """
        heap = self._heap(circuit)
        if avoid is not None and not self.capable.get(circuit, set()) - {avoid}:
            avoid = None
        skipped: tuple[float, str] | None = None
        taken: str | None = None
        while heap and taken is None:
            load, worker_id = heapq.heappop(heap)
            current = self._load(worker_id)
            if current >= 1.0:
                continue
            if load != current:
                heapq.heappush(heap, (current, worker_id))  # it was given a task of another circuit
            elif worker_id == avoid:
                skipped = (load, worker_id)
            else:
                taken = worker_id
        if skipped is not None:
            heapq.heappush(heap, skipped)
        if taken is not None:
            self.busy[taken] += 1
            if self._load(taken) < 1.0:
                heapq.heappush(heap, (self._load(taken), taken))
        return taken

    def any_free(self, circuit: str) -> bool:
        """Return whether a worker for the circuit has a free slot."""
        return any(self._load(worker_id) < 1.0 for _, worker_id in self._heap(circuit))

    def _load(self, worker_id: str) -> float:
        return self.busy[worker_id] / self.capacity[worker_id]

    def _heap(self, circuit: str) -> list[tuple[float, str]]:
        heap = self._heaps.get(circuit)
        if heap is None:
            able = self.capable.get(circuit, set()) & self.capacity.keys()
            heap = [(self._load(worker_id), worker_id) for worker_id in able]
            heapq.heapify(heap)
            self._heaps[circuit] = heap
        return heap


def _worker_slots(state: State, connected: Iterable[str], backing_off: Collection[str]) -> _WorkerSlots:
    capacity: dict[str, int] = {}
    busy: dict[str, int] = {}
    capable: dict[str, set[str]] = {}
    for worker_id in connected:
        worker = state.workers.get(worker_id)
        if worker is None or worker.state is not WorkerState.ONLINE:
            continue
        for circuit in worker.circuits:
            capable.setdefault(circuit, set()).add(worker_id)
        held = len(state.leases.get(worker_id, ()))
        if held < worker.capacity and worker_id not in backing_off:
            capacity[worker_id] = worker.capacity
            busy[worker_id] = held
    return _WorkerSlots(capacity, busy, capable)


class _QueueHeads:
    """The first undecided task of each queue, ordered by waiting time, longest first."""

    def __init__(self, pending: PendingTasks, serves: Callable[[str], bool]) -> None:
        self._heap: list[tuple[int, str, str]] = []  # (position, circuit, task id)
        self._rest: dict[str, Iterator[tuple[str, int]]] = {}
        for circuit, queue in pending.queues():
            if serves(circuit):
                self._rest[circuit] = queue
                self.advance(circuit)

    def pop(self) -> tuple[str, str] | None:
        """Return (circuit, task id) of the first head; its queue is paused until `advance`. None without a head."""
        if not self._heap:
            return None
        _, circuit, task_id = heapq.heappop(self._heap)
        return circuit, task_id

    def advance(self, circuit: str) -> None:
        """Make the next task of this queue its head."""
        head = next(self._rest[circuit], None)
        if head is not None:
            heapq.heappush(self._heap, (head[1], circuit, head[0]))


def plan(
    state: State,
    pending: PendingTasks,
    *,
    connected: Iterable[str],
    backing_off: Collection[str],
    last_failed_by: Mapping[str, str],
    serves: Callable[[str], bool],
    limit: int,
) -> list[Assign]:
    """Return at most `limit` assignments that the present state would accept.

    connected: workers with an open stream; backing_off: those that get nothing for a while; last_failed_by: task id →
    the worker that just failed it, which gets it again only when no other can prove it; serves: whether this
    node can check proofs of a circuit.
    """
    slots = _worker_slots(state, connected, backing_off)
    heads = _QueueHeads(pending, serves)
    skips: dict[str, int] = {}
    assignments: list[Assign] = []
    while len(assignments) < limit and (head := heads.pop()) is not None:
        circuit, task_id = head
        if not slots.any_free(circuit):
            continue  # the whole queue waits
        worker_id = slots.take(circuit, last_failed_by.get(task_id))
        if worker_id is not None:
            assignments.append(Assign(task_id, worker_id))
        else:
            skips[circuit] = skips.get(circuit, 0) + 1
        if skips.get(circuit, 0) <= _MAX_LOOKAHEAD:
            heads.advance(circuit)
    return assignments
