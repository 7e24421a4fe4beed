"""What holds in every reachable state: each index of the state says exactly what the tasks say.

A snapshot that breaks one of these was not written by this program, or memory was corrupted. A node must not continue
from it: the next commands would change one index and not the other.
"""

from collections import Counter
from typing import TYPE_CHECKING

from coordinator.state.model import Task, TaskState

if TYPE_CHECKING:
    from coordinator.state.machine import State


class InvariantError(Exception):
    """Two parts of the state disagree. The message names them."""


def check_invariants(state: "State") -> None:
    """Raise `InvariantError` unless all of this holds.

    - `counts` and `counts_by_circuit` are the numbers of tasks by state, and by circuit and state.
    - `queue` holds exactly the pending tasks, and these have no worker.
    - `leases` hold exactly the assigned and started tasks, under their workers.
    - `finished` holds exactly the ended tasks, in the order in which they ended.
    - `inputs` exist for exactly the tasks that have not ended.
    - A task has a proof exactly if it is completed, and no more retries than it may have.
    - `outbox` holds exactly the events after `projected`, up to `revision`.
    """
    tasks = state.tasks.values()
    _check_counts(state)
    pending = {task.id for task in tasks if task.state is TaskState.PENDING}
    _require(state.queue.keys() == pending, "the queue and the pending tasks differ")
    _require(not any(state.tasks[task_id].worker_id for task_id in pending), "a pending task has a worker")
    leased: dict[str, set[str]] = {}
    for task in tasks:
        if task.state.leased:
            leased.setdefault(task.worker_id, set()).add(task.id)
    held = {worker_id: task_ids for worker_id, task_ids in state.leases.items() if task_ids}
    _require(held == leased, "the leases and the assigned tasks differ")
    ended = [task.id for task in sorted((task for task in tasks if task.state.final), key=_revision)]
    _require(list(state.finished) == ended, "the list of ended tasks and the tasks differ")
    open_ones = {task.id for task in tasks if not task.state.final}
    _require(state.inputs.keys() == open_ones, "the private inputs and the open tasks differ")
    for task in tasks:
        completed = task.state is TaskState.COMPLETED
        _require(bool(task.proof) == completed, f"task {task.id} is {task.state}: its proof does not fit that")
        _require(task.retries <= task.max_retries, f"task {task.id} has more retries than it may have")
    revisions = [event.revision for event in state.outbox]
    expected = list(range(state.projected + 1, state.revision + 1))
    _require(revisions == expected, "the outbox is not what follows the projected revision")


def _check_counts(state: "State") -> None:
    by_state = Counter(task.state for task in state.tasks.values())
    _require(state.counts == {one: by_state[one] for one in TaskState}, "the counts and the tasks differ")
    by_circuit = Counter((task.circuit, task.state) for task in state.tasks.values())
    for circuit in {task.circuit for task in state.tasks.values()} | state.counts_by_circuit.keys():
        expected = {one: by_circuit[circuit, one] for one in TaskState}
        _require(
            state.counts_by_circuit.get(circuit) == expected, f"the counts of circuit {circuit} and the tasks differ"
        )


def _revision(task: Task) -> int:
    return task.revision


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise InvariantError(message)
