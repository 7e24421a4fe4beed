"""Between the services and Raft: commands in, outcomes out, many commands in one log entry.

Group commit: what arrives while one entry is in flight rides in the next, and so does what comes soon after it (see
`group_commit.py`). One entry is one disk sync on each node, however many tasks are in it; this is where throughput
comes from.
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

_GROUP_BYTES = MAX_COMMAND_BYTES * 3 // 4
_GROUP_COMMANDS = 2_000


class ReplicatedState:
    """This node's replica of the state: what Raft applies entries to."""

    def __init__(self) -> None:
        self.state = State()
        self._listeners: list[Callable[[Sequence[TaskEvent]], None]] = []

    def on_events(self, listener: Callable[[Sequence[TaskEvent]], None]) -> None:
        """listener(events) for every applied entry that changed something, in order; must not block or raise."""
        self._listeners.append(listener)

    def apply(self, entry: bytes, index: int) -> list[Outcome]:
        """Every command's outcome. An entry that does not decode is refused whole: it must not stop a node.

        Raises UpgradeRequired, which stops this node alone: its state would differ from the others' from here on.
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
        return codec.capture_state(self.state)

    def load(self, state: bytes | memoryview, give_way: Callable[[], None]) -> Callable[[], Iterator[None]]:
        """Decode a state; the returned function puts it in the place of the present one, and returns the old one's
        end: it is freed in pieces by whoever iterates over them, since freeing it at once takes long.

        Raises CodecError.
        """
        loaded = codec.decode_state(state, give_way)

        def swap() -> Iterator[None]:
            old, self.state = self.state, loaded
            return codec.free_state(old)

        return swap


class Log(Protocol):
    """The replicated log, as `raft.RaftRunner` offers it."""

    @property
    def leading_term(self) -> int | None: ...
    @property
    def term(self) -> int: ...
    @property
    def leader_id(self) -> str | None: ...
    async def propose(self, command: bytes) -> object: ...
    async def transfer_leadership(self, to: str | None) -> str: ...
    def status(self) -> RaftStatus: ...


class _Request:
    """Commands that one caller waits for: answered together, once each of them has an outcome or an error."""

    __slots__ = ("_error", "_missing", "_outcomes", "answer")

    def __init__(self, count: int) -> None:
        self.answer: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._outcomes = [Outcome()] * count
        self._missing = count
        self._error: Exception | None = None

    def settle(self, position: int, outcome: Outcome | Exception) -> None:
        """The outcome of the command at `position`, or why it has none."""
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
class _Waiting:
    """A command, or a barrier (no command), and its place in the request that it belongs to."""

    command: pb.Command | None
    size: int
    request: _Request
    position: int


def wall_clock_ms() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


class Replicator:
    """What the services use to change and to read the replicated state.

    Raises NotLeader (certainly not accepted) and OutcomeUnknown (ask again with the same ids) from every
    coroutine.
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
        self._queue: deque[_Waiting] = deque()
        self._gathering = AdaptiveBatcher(lambda: len(self._queue))
        self._committing: asyncio.Task[None] | None = None
        self._on_leadership: list[Callable[[int | None], None]] = []

    @property
    def state(self) -> State:
        """This node's replica; on the leader it holds everything that was accepted."""
        return self._replica.state

    @property
    def is_leader(self) -> bool:
        return self._log.leading_term is not None

    @property
    def term(self) -> int:
        return self._log.term

    @property
    def leader_id(self) -> str | None:
        return self._log.leader_id

    def status(self) -> RaftStatus:
        return self._log.status()

    def on_events(self, listener: Callable[[Sequence[TaskEvent]], None]) -> None:
        self._replica.on_events(listener)

    def on_leadership(self, listener: Callable[[int | None], None]) -> None:
        """listener(term) when this node leads and is current, listener(None) when it no longer does."""
        self._on_leadership.append(listener)

    def leading(self, term: int) -> None:
        """Called by Raft."""
        for listener in self._on_leadership:
            listener(term)

    def following(self) -> None:
        """Called by Raft."""
        for listener in self._on_leadership:
            listener(None)

    async def submit(self, command: Command) -> Outcome:
        """Replicate one command; its outcome once a quorum has it on disk."""
        (outcome,) = await self._enqueue([codec.encode_command(command)])
        return outcome

    async def submit_all(self, commands: Sequence[Command]) -> list[Outcome]:
        """Replicate commands in this order; their outcomes. On an error some may have been accepted."""
        if not commands:
            return []
        return await self._enqueue([codec.encode_command(command) for command in commands])

    async def barrier(self) -> None:
        """Afterwards `state` holds everything that was accepted, by whichever leader, before the call."""
        await self._enqueue([None])

    async def transfer_leadership(self, to: str | None) -> str:
        """Hand leadership over; the new leader's id. Raises TransferRefused too."""
        return await self._log.transfer_leadership(to)

    def _enqueue(self, commands: Sequence[pb.Command | None]) -> "asyncio.Future[list[Outcome]]":
        if self._log.leading_term is None:
            raise NotLeader(self._log.leader_id)
        request = _Request(len(commands))
        for position, command in enumerate(commands):
            size = command.ByteSize() + 8 if command is not None else 0
            self._queue.append(_Waiting(command, size, request, position))
        self._gathering.arrived()
        if self._committing is None:
            self._committing = asyncio.get_running_loop().create_task(self._commit())
        return request.answer

    async def _commit(self) -> None:
        """Send group after group until nobody waits."""
        loop = asyncio.get_running_loop()
        try:
            while self._queue:
                await self._gathering.gather()
                group = self._next_group()
                began = loop.time()
                try:
                    await self._commit_group(group)
                except Exception as error:  # noqa: BLE001 - whatever it was, nobody may wait for ever
                    _fail(group, error)
                self._gathering.settled(len(group), loop.time() - began)
        finally:
            self._committing = None

    def _next_group(self) -> list[_Waiting]:
        """As many waiting commands as fit, at least one."""
        group = [self._queue.popleft()]
        size = group[0].size
        while self._queue and len(group) < _GROUP_COMMANDS and size + self._queue[0].size <= _GROUP_BYTES:
            group.append(self._queue.popleft())
            size += group[-1].size
        return group

    async def _commit_group(self, group: list[_Waiting]) -> None:
        encoded = [waiting.command for waiting in group if waiting.command is not None]
        entry = codec.encode_group(self._clock_ms(), self._log.term, encoded)
        outcomes = await self._log.propose(entry)
        if not isinstance(outcomes, list) or len(outcomes) != len(encoded):
            raise RaftError("the log gave no outcomes")
        following = iter(outcomes)
        for waiting in group:
            waiting.request.settle(waiting.position, next(following) if waiting.command is not None else Outcome())


def _fail(group: list[_Waiting], error: Exception) -> None:
    for waiting in group:
        waiting.request.settle(waiting.position, error)
