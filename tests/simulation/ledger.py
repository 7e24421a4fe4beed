"""What must hold in a cluster at every step, and the history that it is held against. Pure.

The first node that applies an entry writes the history; every later one must do the same.
"""

import functools
from collections.abc import Callable, Sequence

from coordinator.raft.storage.checksummed_json import load
from coordinator.raft.storage.journal import Entry
from coordinator.state.codec import decode_group
from coordinator.state.commands import Command, Complete, Fail, Start
from coordinator.state.model import AttemptState, EventKind, Outcome, TaskEvent
from tests.simulation.disk import SimDisk
from zkp.protocol.v1 import raft_pb2 as pb

_ENDS = {EventKind.TASK_COMPLETED, EventKind.TASK_FAILED, EventKind.TASK_CANCELLED}


@functools.lru_cache(256)
def _durable_vote(data: bytes | None) -> dict[str, object]:
    return load(data) if data is not None else {"term": 0, "voted_for": None}


class Ledger:
    """broken: called with what must not have happened; on_majority(index, term): whether enough disks hold it."""

    def __init__(self, broken: Callable[[str], None], on_majority: Callable[[int, int], bool]) -> None:
        self._broken = broken
        self._on_majority = on_majority
        self.entries: dict[int, tuple[bytes, int]] = {}
        """Index → the entry that was applied there, and the state's revision after it."""
        self.leaders: dict[int, str] = {}
        """Term → who led in it."""
        self.acknowledged: dict[str, int] = {}
        """Task id → term of the leader that accepted it."""
        self.events: list[TaskEvent] = []
        """Everything that was agreed, in order; the event of revision n is at n - 1."""
        self._ended: set[str] = set()
        self._attempts: dict[str, tuple[int, str]] = {}
        """Task id → its latest attempt, and whose it is."""

    # ------------------------------------------------------------ the log

    def applied(self, node: str, logged: Entry, outcomes: Sequence[Outcome], revision: int) -> None:
        """A node has applied an entry of its log."""
        entry, index, term = logged
        known = self.entries.get(index)
        if known is None:
            if not self._on_majority(index, term):
                self._broken(f"{node} applies entry {index} of term {term}, which no majority has on disk")
            self.entries[index] = entry, revision
            for command, outcome in zip(decode_group(entry).commands, outcomes, strict=True):
                self._check_reporter(command, outcome)
                for event in outcome.events:
                    self._happened(event)
        elif known[0] != entry:
            self._broken(f"{node} applied another entry {index} than the others did")
        elif known[1] != revision:
            self._broken(f"entry {index} made another state of {node} than of the others")

    def led(self, node: str, term: int) -> None:
        """A node believes that it leads."""
        known = self.leaders.setdefault(term, node)
        if known != node:
            self._broken(f"{known} and {node} both lead in term {term}")

    def promised(self, node: str, peer: str, envelope: pb.Envelope, disk: SimDisk, *, unsynced: bool) -> None:
        """A message left: what it promises about the sender's disk is on that disk already.

        unsynced: whether the node holds entries that it has not written yet.
        """
        vote = _durable_vote(disk.durable("vote"))
        term = vote["term"]
        if isinstance(term, int) and envelope.term > term and envelope.WhichOneof("message") != "hello":
            self._broken(f"{node} speaks in term {envelope.term}, its disk says {term}")
        if envelope.HasField("vote") and vote["voted_for"] != peer:
            self._broken(f"{node} votes for {peer}, its disk says {vote['voted_for']}")
        if envelope.HasField("next_index") and envelope.next_index.success and (disk.behind or unsynced):
            self._broken(f"{node} acknowledges what its disk does not have")

    # ------------------------------------------------------------ tasks

    def lost(self, held: Callable[[str], bool], before_term: int) -> list[str]:
        """Acknowledged tasks of earlier terms that a leader does not hold, but those that have ended.

        Who was paused may come to lead late, when a later term has begun: it cannot know of that term's tasks.
        """
        return [
            task
            for task, term in self.acknowledged.items()
            if term < before_term and task not in self._ended and not held(task)
        ]

    def _happened(self, event: TaskEvent) -> None:
        self.events.append(event)
        if event.revision != len(self.events):
            self._broken(f"event {event.revision} is the {len(self.events)}th that happened")
        if len(self.events) > 1 and event.at_ms < self.events[-2].at_ms:
            self._broken(f"time ran backwards at event {event.revision}")
        task = event.task
        if task is None:
            return
        if task.id in self._ended:
            self._broken(f"{event.kind} after the end of {task.id}")
        if event.kind in _ENDS:
            self._ended.add(task.id)
        if event.attempt is not None:
            self._check_attempt(task.id, event)

    def _check_reporter(self, command: Command, outcome: Outcome) -> None:
        """Whoever was heard about an attempt held it, and it was the current one."""
        if isinstance(command, Start | Complete | Fail) and outcome.events:
            latest, whose = self._attempts.get(command.task_id, (0, ""))
            if (command.attempt, command.worker_id) != (latest, whose):
                self._broken(
                    f"{command.worker_id} was heard about attempt {command.attempt} of {command.task_id}, "
                    f"which is {whose}'s in attempt {latest}"
                )

    def _check_attempt(self, task_id: str, event: TaskEvent) -> None:
        """Attempts are numbered on; one worker has one attempt, and its result is the task's."""
        attempt = event.attempt
        assert attempt is not None
        latest, whose = self._attempts.get(task_id, (0, ""))
        if attempt.state is AttemptState.ASSIGNED:
            if attempt.attempt != latest + 1:
                self._broken(f"attempt {attempt.attempt} of {task_id} follows attempt {latest}")
            self._attempts[task_id] = attempt.attempt, attempt.worker_id
        elif (attempt.attempt, attempt.worker_id) != (latest, whose):
            self._broken(
                f"{event.kind}: {attempt.worker_id} in attempt {attempt.attempt} of {task_id}, "
                f"which is {whose}'s in attempt {latest}"
            )
