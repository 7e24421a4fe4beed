"""Random commands for property-based tests, few names, so that they meet; and what must hold after each."""

from copy import copy
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st

from coordinator.state.codec import capture_state, decode_state
from coordinator.state.commands import (
    Assign,
    Cancel,
    Command,
    Complete,
    Fail,
    LoseLease,
    MarkOffline,
    Projected,
    Quarantine,
    RegisterCircuit,
    RegisterWorker,
    Release,
    RevokeCertificate,
    Start,
    Submit,
)
from coordinator.state.machine import State
from coordinator.state.model import Outcome, Task, TaskEvent, TaskState

# The same examples in every run, and no clock.
repeatable = settings(deadline=None, derandomize=True, database=None)

TASKS = st.sampled_from(("t1", "t2", "t3", "t4"))
WORKERS = st.sampled_from(("w1", "w2", "w3"))
CIRCUITS = st.sampled_from(("addition", "range_proof"))
ATTEMPTS = st.integers(0, 4)
INCARNATIONS = st.sampled_from(("first", "second"))
TEXTS = st.text(max_size=5)
SERIALS = st.sampled_from(("a1", "b2", "c3", ""))
PROOFS = st.sampled_from((b"proof-a", b"proof-b"))
INPUTS = st.sampled_from((b"private-a", b"private-b"))
PRIVATE = b"private-"
"""What the inputs alone begin with."""

COMMANDS: st.SearchStrategy[Command] = st.one_of(
    st.builds(
        Submit,
        TASKS,
        WORKERS,
        CIRCUITS,
        INPUTS,
        st.lists(TEXTS, max_size=2).map(tuple),
        st.integers(0, 2),
    ),
    st.builds(Cancel, TASKS),
    st.builds(Assign, TASKS, WORKERS),
    st.builds(Start, TASKS, WORKERS, ATTEMPTS),
    st.builds(Complete, TASKS, WORKERS, ATTEMPTS, PROOFS),
    st.builds(Fail, TASKS, WORKERS, ATTEMPTS, TEXTS, TEXTS, st.booleans(), st.booleans()),
    st.builds(LoseLease, TASKS, ATTEMPTS, TEXTS, TEXTS),
    st.builds(
        RegisterWorker,
        WORKERS,
        INCARNATIONS,
        st.integers(0, 3),
        st.frozensets(CIRCUITS),
        st.lists(st.tuples(TASKS, ATTEMPTS), max_size=3).map(tuple),
        TEXTS,
        SERIALS,
    ),
    st.builds(MarkOffline, WORKERS, INCARNATIONS),
    st.builds(Quarantine, WORKERS, TEXTS),
    st.builds(Release, WORKERS),
    st.builds(RegisterCircuit, CIRCUITS, st.sampled_from(("key-1", "key-2"))),
    st.builds(Projected, st.integers(0, 30), st.integers(0, 30)),
    st.builds(RevokeCertificate, SERIALS, TEXTS, TEXTS, st.integers(0, 5_000), st.one_of(st.just(""), WORKERS)),
)


def fitting(state: State) -> st.SearchStrategy[Command]:
    """Commands that mostly make sense for the state as it is: what a correct leader and its workers would say."""
    worker_ids = sorted(state.workers)
    choices: list[st.SearchStrategy[Command]] = []
    for task in state.tasks.values():
        if task.state is TaskState.PENDING and worker_ids:
            choices.append(st.builds(Assign, st.just(task.id), st.sampled_from(worker_ids)))
        elif task.state.leased:
            choices += _reports(task)
    choices.append(st.builds(Projected, st.integers(state.projected, state.revision), st.integers(0, 30)))
    return st.one_of(choices)


def _reports(task: Task) -> list[st.SearchStrategy[Command]]:
    """Mostly by the holder of the attempt; sometimes of an attempt or by a worker just beside it."""
    attempts = st.sampled_from((task.attempt, task.attempt, task.attempt - 1, task.attempt + 1))
    held = (st.just(task.id), st.one_of(st.just(task.worker_id), WORKERS), attempts)
    return [
        st.builds(Start, *held),
        st.builds(Complete, *held, PROOFS),
        st.builds(Fail, *held, TEXTS, TEXTS, st.booleans(), st.booleans()),
        st.builds(LoseLease, st.just(task.id), attempts, TEXTS, TEXTS),
    ]


@dataclass
class Witness:
    """Remembers what happened, and says what does not fit."""

    revision: int = 0
    clock_ms: int = 0
    endings: dict[tuple[str, int], Task] = field(default_factory=dict)
    """(task id, created at revision) → the task as it ended."""
    births: dict[str, int] = field(default_factory=dict)

    def check(self, state: State, command: Command, before: bytes, task: Task | None, outcome: Outcome) -> None:
        """Everything that must hold after any command; `before`, `task`: the state's bytes and its task before it."""
        self._check_events(state, outcome)
        if outcome.events:
            check_right_to_report(command, task)
        if outcome.refusal is not None or outcome.duplicate:
            assert not outcome.events
            assert as_time_passes(state, before) == bytes_of(state)
        if isinstance(command, RevokeCertificate) and outcome.refusal is None:
            assert command.serial in state.revoked
        if isinstance(command, RegisterWorker) and outcome.refusal is None:
            assert command.certificate_serial not in state.revoked
        if isinstance(command, Assign) and outcome.events:
            worker = state.workers[command.worker_id]
            assert len(state.leases[worker.id]) <= worker.capacity
        self._check_endings(state)
        state.check()
        check_secrets(state)

    def _check_events(self, state: State, outcome: Outcome) -> None:
        for event in outcome.events:
            self.revision += 1
            assert event.revision == self.revision
            for value in (event.task, event.attempt, event.worker, event.circuit, event.revocation):
                assert value is None or value.revision == event.revision
            assert event.at_ms == state.clock_ms
            self._follow(event)
        assert state.revision == self.revision
        assert state.clock_ms >= self.clock_ms
        self.clock_ms = state.clock_ms

    def _follow(self, event: TaskEvent) -> None:
        task = event.task
        if task is None:
            return
        if task.state is TaskState.PENDING and task.attempt == 0:
            self.births[task.id] = event.revision
        if task.state.final:
            key = (task.id, self.births[task.id])
            assert key not in self.endings, "a task ended twice"
            self.endings[key] = task

    def _check_endings(self, state: State) -> None:
        """What has ended stays what it is, its proof above all."""
        for task in state.tasks.values():
            assert task.retries <= task.max_retries
            if task.state.final:
                assert self.endings[task.id, self.births[task.id]] == task
            assert bool(task.proof) == (task.state is TaskState.COMPLETED)


def check_right_to_report(command: Command, task: Task | None) -> None:
    """Who was heard about an attempt held it, and it was the current one."""
    match command:
        case Start() | Complete() | Fail():
            assert task is not None
            assert task.state.leased
            assert (task.worker_id, task.attempt) == (command.worker_id, command.attempt)
        case LoseLease():
            assert task is not None
            assert task.state.leased
            assert task.attempt == command.attempt


def check_secrets(state: State) -> None:
    """Private inputs are kept until the task ends, and in one place."""
    assert state.inputs.keys() == {task.id for task in state.tasks.values() if not task.state.final}
    elsewhere = copy(state)
    elsewhere.inputs = {}
    assert PRIVATE not in bytes_of(elsewhere)


def bytes_of(state: State) -> bytes:
    """The state as a snapshot holds it."""
    return b"".join(capture_state(state))


def as_time_passes(state: State, data: bytes) -> bytes:
    """The same bytes with the clock of `state`: a refused command may still show that time has passed."""
    earlier = decode_state(data)
    earlier.clock_ms = state.clock_ms
    return bytes_of(earlier)
