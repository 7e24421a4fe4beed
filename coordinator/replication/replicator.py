"""Replication of commands: proposals from the services, many of them per log entry, and their outcomes.

Group commit: commands that arrive while an entry is in flight share the next one, as do commands that arrive shortly
after it (see `group_commit.py`). An entry costs one disk sync per node, however many tasks it holds; the cluster's
throughput depends on this.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from coordinator.raft import MAX_COMMAND_BYTES, NotLeader, RaftError, RaftStatus, UpgradeRequired
from coordinator.replication.group_commit import AdaptiveBatcher
from coordinator.state import codec
from coordinator.state.commands import Command
from coordinator.state.machine import State
from coordinator.state.model import Outcome, RefusalCode, Rejection, TaskEvent
from zkp.protocol.v1 import replicated_pb2 as pb

log = logging.getLogger("zkp.replication")

_MAX_BATCH_BYTES = MAX_COMMAND_BYTES * 3 // 4
_MAX_BATCH_COMMANDS = 2_000


class ReplicatedState:
    """This node's replica of the state, to which Raft applies log entries."""

    def __init__(self) -> None:
        self.state = State()
        self._listeners: list[Callable[[Sequence[TaskEvent]], None]] = []

    def on_events(self, listener: Callable[[Sequence[TaskEvent]], None]) -> None:
        """Call listener(events) for every applied entry with events, in order. It must not block or raise."""
        self._listeners.append(listener)

    def apply(self, entry: bytes, index: int) -> list[Outcome]:
        """Apply one entry and return the outcome of each command.

        A malformed entry is rejected as a whole, because it must not stop a node.

        Raises:
            UpgradeRequired: a later version wrote the entry. It stops this node alone, whose state would diverge.
        """
        try:
            group = codec.decode_group(entry)
        except codec.LaterVersionError as error:
            raise UpgradeRequired(f"log entry {index} {error}: upgrade this node and start it again") from error
        except codec.CodecError as error:
            log.error("entry %d is refused: %s", index, error)
            return [Outcome(refusal=Rejection(RefusalCode.INVALID, str(error)))]
        outcomes = [self.state.apply(command, group.now_ms, group.term) for command in group.commands]
        events = [event for outcome in outcomes for event in outcome.events]
        if events:
            for listener in self._listeners:
                listener(events)
        return outcomes

    def capture(self) -> Iterator[bytes]:
        """Return the parts of a snapshot of the present state; they are encoded as they are consumed."""
        return codec.capture_state(self.state)

    def load(self, state: bytes | memoryview, give_way: Callable[[], None]) -> Callable[[], Iterator[None]]:
        """Decode a snapshot, and return a function that replaces the present state with it.

        That function returns an iterator which frees the old state in pieces, because freeing it at once takes long.

        Args:
            state: The joined parts of a snapshot.
            give_way: Called after each millisecond or so of work.

        Raises:
            CodecError: the snapshot is malformed, or of a later version.
        """
        loaded = codec.decode_state(state, give_way)

        def swap() -> Iterator[None]:
            old, self.state = self.state, loaded
            return codec.free_state(old)

        return swap


class Log(Protocol):
    """The replicated log, as `raft.RaftRunner` offers it."""

    @property
    def leading_term(self) -> int | None:
        """Term in which this node leads; None if it does not."""
        ...

    @property
    def term(self) -> int:
        """Present term."""
        ...

    @property
    def leader_id(self) -> str | None:
        """Known leader; None if none is known."""
        ...

    async def propose(self, command: bytes) -> object:
        """Commit a command and return the outcome of its application."""
        ...

    async def transfer_leadership(self, to: str | None) -> str:
        """Transfer leadership, and return the new leader's id."""
        ...

    def status(self) -> RaftStatus:
        """Status of this node."""
        ...


class _Request:
    """Commands of one caller, which are answered together once each has an outcome or an error."""

    __slots__ = ("_error", "_missing", "_outcomes", "answer")

    def __init__(self, count: int) -> None:
        self.answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._outcomes = [Outcome()] * count
        self._missing = count
        self._error: Exception | None = None

    def settle(self, position: int, outcome: Outcome | Exception) -> None:
        """Store the outcome of the command at `position`, or the error that it ended with."""
        if isinstance(outcome, Exception):
            self._error = self._error or outcome
        else:
            self._outcomes[position] = outcome
        self._missing -= 1
        if self._missing or self.answer.done():
            return
        if self._error is not None:
            self.answer.set_exception(self._error)
        else:
            self.answer.set_result(self._outcomes)


@dataclass(slots=True)
class _PendingCommand:
    """A queued command, or a barrier (no command), and its position in its request."""

    command: pb.Command | None
    size: int
    request: _Request
    position: int


def wall_clock_ms() -> int:
    """Return the wall clock in milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class Replicator:
    """The services' interface to the replicated state.

    Every coroutine raises NotLeader (the commands were not accepted) and OutcomeUnknown (repeat with the same ids).
    """

    def __init__(
        self,
        node_id: str,
        replica: ReplicatedState,
        raft_log: Log,
        clock_ms: Callable[[], int] = wall_clock_ms,
    ) -> None:
        self.node_id = node_id
        self._replica = replica
        self._log = raft_log
        self._clock_ms = clock_ms
        self._queue: deque[_PendingCommand] = deque()
        self._batcher = AdaptiveBatcher(lambda: len(self._queue))
        self._committing: asyncio.Task[None] | None = None
        self._on_leadership: list[Callable[[int | None], None]] = []

    @property
    def state(self) -> State:
        """This node's replica; the leader's holds every accepted command."""
        return self._replica.state

    @property
    def is_leader(self) -> bool:
        """True while this node leads and is current."""
        return self._log.leading_term is not None

    def require_leader(self) -> None:
        """Raise NotLeader unless this node leads."""
        if not self.is_leader:
            raise NotLeader(self.leader_id)

    @property
    def term(self) -> int:
        """The current term."""
        return self._log.term

    @property
    def leader_id(self) -> str | None:
        """The node id of the leader; None while it is unknown."""
        return self._log.leader_id

    def status(self) -> RaftStatus:
        """Return the Raft status of this node."""
        return self._log.status()

    def on_events(self, listener: Callable[[Sequence[TaskEvent]], None]) -> None:
        """Call listener(events) for every applied entry with events. See `ReplicatedState.on_events`."""
        self._replica.on_events(listener)

    def on_leadership(self, listener: Callable[[int | None], None]) -> None:
        """Call listener(term) when this node leads and is current, listener(None) when it no longer leads."""
        self._on_leadership.append(listener)

    def leading(self, term: int) -> None:
        """Notify the listeners that this node leads in `term`. Called by Raft."""
        for listener in self._on_leadership:
            listener(term)

    def following(self) -> None:
        """Notify the listeners that this node no longer leads. Called by Raft."""
        for listener in self._on_leadership:
            listener(None)

    async def submit(self, command: Command) -> Outcome:
        """Replicate one command, and return its outcome once a quorum has it on disk."""
        (outcome,) = await self._enqueue([codec.encode_command(command)])
        return outcome

    async def submit_all(self, commands: Sequence[Command]) -> list[Outcome]:
        """Replicate commands in this order, and return their outcomes. On an error some may have been accepted."""
        if not commands:
            return []
        return await self._enqueue([codec.encode_command(command) for command in commands])

    async def barrier(self) -> None:
        """Wait until `state` holds everything that any leader accepted before the call."""
        await self._enqueue([None])

    async def transfer_leadership(self, to: str | None) -> str:
        """Transfer leadership, and return the new leader's id. Also raises TransferRefused."""
        return await self._log.transfer_leadership(to)

    def _enqueue(self, commands: Sequence[pb.Command | None]) -> "asyncio.Future[list[Outcome]]":
        if self._log.leading_term is None:
            raise NotLeader(self._log.leader_id)
        request = _Request(len(commands))
        for position, command in enumerate(commands):
            size = command.ByteSize() + 8 if command is not None else 0
            self._queue.append(_PendingCommand(command, size, request, position))
        self._batcher.command_arrived()
        if self._committing is None:
            self._committing = asyncio.get_running_loop().create_task(self._commit())
        return request.answer

    async def _commit(self) -> None:
        """Commit one batch after another until the queue is empty."""
        loop = asyncio.get_running_loop()
        try:
            while self._queue:
                await self._batcher.wait()
                batch = self._next_batch()
                began = loop.time()
                try:
                    await self._commit_batch(batch)
                except Exception as error:  # noqa: BLE001 - every caller must get an answer
                    _fail(batch, error)
                self._batcher.committed(len(batch), loop.time() - began)
        finally:
            self._committing = None

    def _next_batch(self) -> list[_PendingCommand]:
        """Take as many queued commands as fit into an entry, at least one."""
        batch = [self._queue.popleft()]
        size = batch[0].size
        while self._queue and len(batch) < _MAX_BATCH_COMMANDS and size + self._queue[0].size <= _MAX_BATCH_BYTES:
            batch.append(self._queue.popleft())
            size += batch[-1].size
        return batch

    async def _commit_batch(self, batch: list[_PendingCommand]) -> None:
        encoded = [pending.command for pending in batch if pending.command is not None]
        entry = codec.encode_group(self._clock_ms(), self._log.term, encoded)
        outcomes = await self._log.propose(entry)
        if not isinstance(outcomes, list) or len(outcomes) != len(encoded):
            raise RaftError("the log gave no outcomes")
        following = iter(outcomes)
        for pending in batch:
            pending.request.settle(pending.position, next(following) if pending.command is not None else Outcome())


def _fail(batch: list[_PendingCommand], error: Exception) -> None:
    for pending in batch:
        pending.request.settle(pending.position, error)
