"""Which pending task goes to which worker: decisions only, as `Assign` commands for the leader to propose.

Pure. A round costs as much as the workers and the assignments that it makes, however long the queue is: pending
tasks are kept in one line per circuit, so that a circuit which nobody can prove now holds up no other.
"""

import heapq
import itertools
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from coordinator.state.commands import Assign
from coordinator.state.machine import State
from coordinator.state.model import EventKind, TaskEvent, TaskState, WorkerState

_SKIPS = 64  # tasks of one line that may wait for a better worker before the line has to wait as a whole


class PendingTasks:
    """Ids of the pending tasks in one line per circuit, each in the order of the replicated queue.

    Positions compare across lines: the task that has waited longest has the smallest. A long queue takes seconds to
    read, so that `read` takes it in parts; `lines` reads what is left.
    """

    def __init__(self, state: State) -> None:
        self._lines: dict[str, OrderedDict[str, int]] = {}
        self._last = 0
        self._first = 0
        self._tasks = state.tasks
        self._unread: Iterator[str] | None = iter(list(state.queue))
        self._postponed: list[TaskEvent] = []
        """Events since the queue began to be read; they follow it."""

    def read(self, count: int | None = None) -> bool:
        """Read up to `count` more tasks of the queue (None: all of them); True when nothing is left to read."""
        if self._unread is None:
            return True
        read = 0
        for task_id in itertools.islice(self._unread, count):
            read += 1
            task = self._tasks.get(task_id)
            if task is not None:  # else it ended and was removed since
                self._append(task.circuit, task_id)
        if read == count:
            return False
        self._unread = None
        postponed, self._postponed = self._postponed, []
        self.observe(postponed)
        return True

    def observe(self, events: Sequence[TaskEvent]) -> None:
        """Follow the queue: new tasks at its end, returned ones at its head, as the state machine has it."""
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
                line = self._lines.setdefault(task.circuit, OrderedDict())
                line[task.id] = self._first
                line.move_to_end(task.id, last=False)
            elif task.state is not TaskState.PENDING:
                line = self._lines.get(task.circuit, OrderedDict())
                line.pop(task.id, None)

    def lines(self) -> Iterator[tuple[str, Iterator[tuple[str, int]]]]:
        """(circuit, its (task id, position) in order) of every circuit that has pending tasks."""
        self.read()
        for circuit, line in self._lines.items():
            if line:
                yield circuit, iter(line.items())

    def _append(self, circuit: str, task_id: str) -> None:
        self._last += 1
        self._lines.setdefault(circuit, OrderedDict())[task_id] = self._last


@dataclass(slots=True)
class _Seats:
    """Free slots of the workers that may be given something now, the least loaded first."""

    capacity: dict[str, int]
    busy: dict[str, int]
    capable: dict[str, set[str]]
    """Circuit → every connected worker that can prove it, free or not."""
    _heaps: dict[str, list[tuple[float, str]]] = field(default_factory=dict)

    def take(self, circuit: str, avoid: str | None) -> str | None:
        """Occupy a slot of the least loaded worker other than `avoid`; None when there is none.

        The avoided worker is taken after all when it is the only one connected that can prove the circuit.
        """
        heap = self._heap(circuit)
        if avoid is not None and not self.capable.get(circuit, set()) - {avoid}:
            avoid = None
        put_back: tuple[float, str] | None = None
        taken: str | None = None
        while heap and taken is None:
            load, worker_id = heapq.heappop(heap)
            current = self._load(worker_id)
            if current >= 1.0:
                continue
            if load != current:
                heapq.heappush(heap, (current, worker_id))  # it was given a task of another circuit
            elif worker_id == avoid:
                put_back = (load, worker_id)
            else:
                taken = worker_id
        if put_back is not None:
            heapq.heappush(heap, put_back)
        if taken is not None:
            self.busy[taken] += 1
            if self._load(taken) < 1.0:
                heapq.heappush(heap, (self._load(taken), taken))
        return taken

    def any_free(self, circuit: str) -> bool:
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


def _seats(state: State, connected: Iterable[str], resting: Collection[str]) -> _Seats:
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
        if held < worker.capacity and worker_id not in resting:
            capacity[worker_id] = worker.capacity
            busy[worker_id] = held
    return _Seats(capacity, busy, capable)


class _Heads:
    """The first task of each line that is not decided on yet, the longest waiting of them first."""

    def __init__(self, pending: PendingTasks, serves: Callable[[str], bool]) -> None:
        self._heap: list[tuple[int, str, str]] = []  # (position, circuit, task id)
        self._rest: dict[str, Iterator[tuple[str, int]]] = {}
        for circuit, line in pending.lines():
            if serves(circuit):
                self._rest[circuit] = line
                self.advance(circuit)

    def pop(self) -> tuple[str, str] | None:
        """(circuit, task id); its line stands still until `advance`."""
        if not self._heap:
            return None
        _, circuit, task_id = heapq.heappop(self._heap)
        return circuit, task_id

    def advance(self, circuit: str) -> None:
        """Let the next task of this line come forward."""
        head = next(self._rest[circuit], None)
        if head is not None:
            heapq.heappush(self._heap, (head[1], circuit, head[0]))


def plan(
    state: State,
    pending: PendingTasks,
    *,
    connected: Iterable[str],
    resting: Collection[str],
    avoided: Mapping[str, str],
    serves: Callable[[str], bool],
    limit: int,
) -> list[Assign]:
    """At most `limit` assignments that the state, as it is, would accept.

    connected: workers with an open stream; resting: those that get nothing for a while; avoided: task id →
    the worker that just failed it, which gets it again only when no other can prove it; serves: whether this
    node can check proofs of a circuit.
    """
    seats = _seats(state, connected, resting)
    heads = _Heads(pending, serves)
    skips: dict[str, int] = {}
    assignments: list[Assign] = []
    while len(assignments) < limit and (head := heads.pop()) is not None:
        circuit, task_id = head
        if not seats.any_free(circuit):
            continue  # the whole line waits
        worker_id = seats.take(circuit, avoided.get(task_id))
        if worker_id is not None:
            assignments.append(Assign(task_id, worker_id))
        else:
            skips[circuit] = skips.get(circuit, 0) + 1
        if skips.get(circuit, 0) <= _SKIPS:
            heads.advance(circuit)
    return assignments
