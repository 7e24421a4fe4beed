"""One simulated process: the real node and the real state machine, on a disk and a network that can fail."""

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from coordinator.raft import NotLeader, RaftError, RaftOptions, StorageError
from coordinator.raft.errors import FrameError
from coordinator.raft.node import RaftNode
from coordinator.raft.snapshots import Work
from coordinator.replication.replicator import ReplicatedState
from coordinator.state.codec import encode_command, encode_group
from coordinator.state.commands import Command
from coordinator.state.model import Outcome, TaskEvent
from tests.simulation.disk import ProcessDied, SimDisk
from tests.simulation.durability_oracle import Log, misjudged
from tests.simulation.ledger import Ledger
from tests.simulation.liveness_oracle import LivenessOracle
from tests.simulation.network import Network
from zkp.protocol.v1 import raft_pb2 as pb

HEARTBEAT, ELECTION_TIMEOUT = 0.05, 0.25
SLOWEST_APPLY = 0.02
"""Seconds that a node on a slow processor takes to apply one entry, at most."""
_LONGEST_STEP = HEARTBEAT
"""Seconds after which a node must listen to its peers again."""


class World(Protocol):
    """What is around a process."""

    names: list[str]
    nodes: "dict[str, SimNode]"
    network: Network
    ledger: Ledger
    time: float
    spent: float

    def at(self, delay: float, action: Callable[[], None]) -> None: ...
    def chance(self, low: float, high: float) -> float: ...
    def make_id(self) -> str: ...
    def broken(self, what: str) -> None: ...
    def note(self, text: str) -> None: ...
    def leads(self, node: "SimNode", term: int) -> None: ...
    def leads_no_more(self, node: "SimNode") -> None: ...


class _Recorder(ReplicatedState):
    """The real replica; the ledger is told what it applies.

    term_of: of an entry of the node's log, by its index. on_apply: called before each entry is applied.
    """

    def __init__(
        self, name: str, ledger: Ledger, term_of: Callable[[int], int], on_apply: Callable[[], None]
    ) -> None:
        super().__init__()
        self._name = name
        self._ledger = ledger
        self._term_of = term_of
        self._on_apply = on_apply

    def apply(self, entry: bytes, index: int) -> list[Outcome]:
        self._on_apply()
        outcomes = super().apply(entry, index)
        self._ledger.applied(self._name, (entry, index, self._term_of(index)), outcomes, self.state.revision)
        return outcomes


class SimNode:
    """It dies and starts again, and keeps its disk."""

    snapshot_entries = 20

    def __init__(self, world: World, name: str, disk: SimDisk, *, bootstrap: bool) -> None:
        self._world = world
        self.name = name
        self.alive = False
        self.paused = False
        self.disk = disk
        disk.on_slow, disk.on_slow_snapshot = self._stall, self._store_slowly
        self.clock_offset = 0.0
        """Seconds that this machine's wall clock is off."""
        self.apply_seconds = 0.0
        """What its processor takes to apply one entry."""
        self._bootstrap = bootstrap
        self.machine = self._recorder()
        self.raft: RaftNode | None = None
        self.log = Log(disk)
        self.liveness = LivenessOracle(name, len(world.names), ELECTION_TIMEOUT, lambda: world.time, world.broken)
        self.life = 0
        """Counts the starts of its process."""
        self._log_seen = False
        self._ticks_soon = False
        self._inbox: list[Callable[[], None]] = []
        self._busy_until = 0.0
        self._worker_is_late: float | None = None
        """Seconds that the other thread has waited for the disk so far; None while it has nothing to do."""

    # ------------------------------------------------------------ life and death

    def start(self) -> None:
        if self.alive:
            return
        self.life += 1
        self._log_seen = False
        generation = self.life
        self.machine = self._recorder()
        self.liveness.begin()
        self.alive, self.paused, self._busy_until = True, False, 0.0
        self._world.note(f"{self.name} starts")
        self.guarded(lambda: self._build(generation))
        if self.alive:
            self._tick_for_ever(generation)

    def _build(self, generation: int) -> None:
        peers = tuple(name for name in self._world.names if name != self.name)
        self.raft = RaftNode(
            RaftOptions(
                self.name,
                peers,
                self._bootstrap,
                HEARTBEAT,
                ELECTION_TIMEOUT,
                snapshot_entries=self.snapshot_entries,
                trailing_entries=8,
                segment_bytes=2 << 10,
            ),
            disk=self.disk,
            outbox=self,
            machine=self.machine,
            listener=self,
            offload=lambda work, done: self._offload(generation, work, done),
            make_id=self._world.make_id,
        )
        self._look_at_log()

    def _recorder(self) -> _Recorder:
        return _Recorder(self.name, self._world.ledger, self._term_of, self._apply_begins)

    def _apply_begins(self) -> None:
        self._world.spent += self.apply_seconds

    def _term_of(self, index: int) -> int:
        assert self.raft is not None
        journal = self.raft._journal
        return journal[index - journal[0][1]][2]

    def _look_at_log(self) -> None:
        """Once in a life, when the node belongs to a cluster."""
        if self.raft is not None and self.raft._core is not None and not self._log_seen:
            self._log_seen = True
            self.log.starts(
                self.raft._journal,
                self.raft._snapshots.index,
                lambda what: self._world.broken(f"{self.name} {what}"),
            )

    def wipe(self) -> None:
        """The disk forgets everything; the process is dead."""
        self.disk.wipe()
        self.log.wiped()

    def kill(self, *, power_loss: bool) -> None:
        """The process ends here and now; with power_loss the disk forgets what was not synced."""
        if self.alive:
            self._world.note(f"{self.name} {'loses power' if power_loss else 'dies'}")
            self.alive = False
            self.raft = None
            self._inbox.clear()
            self._world.leads_no_more(self)
            self._world.network.drop_node(self.name)
        if power_loss:
            self.disk.lose_power()
        self.disk.die_in, self.disk.die_at = 0, None

    def guarded(self, step: Callable[[], None]) -> None:
        """Run a step of the process; it may die of its disk."""
        if self.paused:
            self._inbox.append(step)
            return
        try:
            step()
        except ProcessDied:
            self.kill(power_loss=False)
        except StorageError as error:
            if not self.disk.full:
                self._world.broken(f"{self.name} refuses its own files: {error}")
            self.kill(power_loss=False)
        except Exception as error:  # a real process ends, too
            if _raised_by_a_mutation(error):
                raise
            self._world.broken(f"{self.name} fails as nobody expected: {error!r}")
        finally:
            self._pay()

    def _pay(self) -> None:
        """The step took its time: until it is over, the node neither hears nor says anything more."""
        spent, self._world.spent = self._world.spent, 0.0
        if spent > _LONGEST_STEP:
            self._world.broken(f"{self.name} applies entries for {spent:.2f} s and answers nobody meanwhile")
        if spent:
            self._stall(spent)

    def pause(self) -> None:
        self._world.note(f"{self.name} sleeps")
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self.liveness.wake()
        waiting, self._inbox = self._inbox, []
        for step in waiting:
            if self.alive:
                self.guarded(step)

    def _stall(self, seconds: float) -> None:
        """A sync takes this long: nothing leaves and nothing is taken in before it is done."""
        if not self.alive:
            return
        until = max(self._busy_until, self._world.time) + seconds
        self._busy_until, self.paused = until, True
        generation = self.life

        def done() -> None:
            if self.life == generation and self._busy_until == until:
                self.resume()

        self._world.at(until - self._world.time, done)

    def _store_slowly(self, seconds: float) -> None:
        """In the other thread this delays the result only."""
        if self._worker_is_late is None:
            self._world.broken(f"{self.name} stands still for {seconds:.2f} s while it stores a snapshot")
            self._stall(seconds)
        else:
            self._worker_is_late += seconds

    def _tick_for_ever(self, generation: int) -> None:
        if not self.alive or generation != self.life:
            return
        if not self.paused:
            self.guarded(self._tick)
        self._world.at(HEARTBEAT / 5, lambda: self._tick_for_ever(generation))

    def _tick(self) -> None:
        if self.raft is not None:
            self.raft.tick()
            pause = self.raft.apply_pause()
            if pause is not None:
                self._tick_soon(pause)

    def _tick_soon(self, pause: float = 0.0) -> None:
        """One tick for everything that is proposed at the same time."""
        if self._ticks_soon:
            return
        self._ticks_soon = True

        def tick() -> None:
            self._ticks_soon = False
            self.guarded(self._tick)

        self._world.at(pause, tick)

    def _offload(self, generation: int, work: Work, done: Callable[[Any], None]) -> None:
        def soon(step: Callable[[], None], late: float = 0.0) -> None:
            def in_this_life() -> None:
                if self.alive and generation == self.life:
                    self.guarded(step)

            self._world.at(late + self._world.chance(0.0, 0.05), in_this_life)

        def run() -> None:
            self._worker_is_late = 0.0
            try:
                result = work(lambda: None)
            finally:
                late, self._worker_is_late = self._worker_is_late, None
            soon(lambda: done(result), late)

        soon(run)

    # ------------------------------------------------------------ what is asked of it

    @property
    def leading_term(self) -> int | None:
        """The term in which it believes that it leads and is current, or None."""
        return self.raft.leading_term if self.raft is not None else None

    @property
    def campaigns(self) -> bool:
        """Whether it asks for votes, and nobody has won yet."""
        return self.raft is not None and self.raft.status().role == "candidate"

    def wall_clock_ms(self) -> int:
        return int((self._world.time + self.clock_offset) * 1000)

    def propose(self, commands: Sequence[Command], done: Callable[[list[Outcome] | RaftError], None]) -> None:
        """Have the commands replicated as one entry; none are a barrier. `done` may never be called: it died."""

        def step() -> None:
            raft = self.raft
            if raft is None:
                return
            entry = encode_group(self.wall_clock_ms(), raft.term, [encode_command(command) for command in commands])

            self.liveness.asked += 1

            def answered(result: object) -> None:
                assert isinstance(result, list | RaftError)
                self.liveness.asked -= 1
                done(result)

            try:
                raft.propose(entry, answered)
            except NotLeader as error:
                answered(error)
                return
            self._tick_soon()

        self.guarded(step)

    def on_events(self, listener: Callable[[Sequence[TaskEvent]], None]) -> None:
        """Of this life of the process."""
        self.machine.on_events(listener)

    # ------------------------------------------------------------ Endpoint, Outbox, Listener

    def link_up(self, peer: str) -> None:
        self.guarded(lambda: self.raft.link_up(peer) if self.raft is not None else None)

    def link_down(self, peer: str) -> None:
        def notice() -> None:
            if self.raft is not None:
                self.liveness.missed(peer)
                self.raft.link_down(peer)

        self.guarded(notice)

    def frame(self, peer: str, envelope: pb.Envelope) -> None:
        def take() -> None:
            if self.raft is None:
                return
            self.liveness.heard(peer, envelope, self.raft.term)
            try:
                self.raft.receive(peer, envelope)
            except FrameError as error:
                self._world.note(f"{self.name} closes the connection of {peer}: {error}")
                self._world.network.drop_connection(self.name, peer)
            self.raft.tick()
            self._look_at_log()
            self._look_at_beliefs(self.raft)

        self.guarded(take)

    def _look_at_beliefs(self, raft: RaftNode) -> None:
        if not raft.is_engine_leader or raft._core is None:
            return
        peers = {
            name: (node.raft.term, node.log)
            for name, node in self._world.nodes.items()
            if node is not self and node.raft is not None
        }
        what = misjudged(raft._core, raft._journal, peers)
        if what:
            self._world.broken(f"{self.name} {what}")

    def send(self, peer_id: str, envelope: pb.Envelope) -> None:
        unsynced = self.raft is not None and bool(self.raft._journal._pending) if envelope.cluster_id else False
        self._world.ledger.promised(self.name, peer_id, envelope, self.disk, unsynced=unsynced)
        self.liveness.says(envelope)
        self._world.network.send(self.name, peer_id, envelope, not_before=self._busy_until)

    def backlog(self, peer_id: str) -> int:
        return self._world.network.backlog(self.name, peer_id)

    def leading(self, term: int) -> None:
        self._world.note(f"{self.name} leads in term {term}")
        lost = self._world.ledger.lost(self.machine.state.tasks.__contains__, term)
        if lost:
            self._world.broken(f"{self.name} leads in term {term} without {len(lost)} acknowledged tasks: {lost[:3]}")
        self._world.leads(self, term)

    def following(self) -> None:
        self._world.note(f"{self.name} leads no more")
        self.liveness.follows()
        self._world.leads_no_more(self)


def _raised_by_a_mutation(error: Exception) -> bool:
    """Return whether a mutation itself failed, for example on a name that was changed: that is no find."""
    frames = [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]
    ours = [path for path in frames if path.name == "mutations.py" or "coordinator" in path.parts]
    return (
        bool(ours) and ours[-1].name == "mutations.py" and isinstance(error, AttributeError | TypeError | NameError)
    )
