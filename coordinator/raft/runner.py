"""Drives a node on the event loop: links, ticks, the snapshot thread. No decisions are made here."""

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from coordinator.raft.errors import FrameError, OutcomeUnknown, RaftError, StorageError, TransferRefused
from coordinator.raft.leader_changes import LeaderChangeCounter
from coordinator.raft.node import Listener, RaftNode
from coordinator.raft.snapshots import StateMachine, Work
from coordinator.raft.status import RaftOptions, RaftStatus
from coordinator.raft.storage.disk import OsDisk
from coordinator.raft.storage.snapshot_file import SnapshotFile, snapshot_file
from coordinator.raft.throttle import GilThrottle
from coordinator.raft.transport.connections import LinkEvents, PeerConnections
from pki.tls.material import TlsMaterial
from zkp.daemon.settings import Address
from zkp.protocol.v1 import raft_pb2 as pb

log = logging.getLogger("zkp.raft")

PROPOSAL_TIMEOUT = 10.0


def _unwatched(_: float) -> None:
    """No-op observer of durations."""


class RaftRunner:
    """One node at work. `fatal` is set to the error that must end the process."""

    def __init__(
        self,
        options: RaftOptions,
        *,
        directory: Path,
        bind: Address,
        peers: dict[str, Address],
        material: TlsMaterial,
        machine: StateMachine,
        listener: Listener,
        on_refused: Callable[[str], None],
        on_append: Callable[[float], None] = _unwatched,
        on_sync: Callable[[float], None] = _unwatched,
    ) -> None:
        """on_append, on_sync: called with the seconds that each accepted proposal, and each journal sync, took."""
        self._on_append = on_append
        self._directory = directory
        self._leader_seen = LeaderChangeCounter(options.node_id)
        self._loop = asyncio.get_running_loop()
        self.fatal: asyncio.Future[StorageError] = self._loop.create_future()
        self.last_tick = self._loop.time()
        """Loop time of the last completed tick: the watchdog's proof of life."""
        self._tick_period = options.heartbeat / 5
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="snapshot")
        self._stopping = threading.Event()
        self._tick_soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._apply_soon: asyncio.TimerHandle | None = None
        self._links = PeerConnections(
            options.node_id,
            bind,
            peers,
            material,
            LinkEvents(self._up, self._down, self._replaced, self._frame, on_refused),
        )
        self._node = RaftNode(
            options,
            disk=OsDisk(directory, on_sync),
            outbox=self._links,
            machine=machine,
            listener=listener,
            offload=self._offload,
            make_id=lambda: secrets.token_hex(16),
        )

    async def start(self) -> None:
        """Listen and begin to tick. Raises OSError when the address cannot be bound."""
        await self._links.start()
        self._on_timer()

    async def stop(self) -> None:
        """Close the links and the log. Callers that still wait get OutcomeUnknown."""
        for handle in (self._timer, self._tick_soon, self._apply_soon):
            if handle is not None:
                handle.cancel()
        await self._links.stop()
        if not self.fatal.done():
            self._node.close()
        self._stopping.set()
        self._encoder.shutdown(wait=True, cancel_futures=True)

    async def propose(self, command: bytes) -> object:
        """Replicate one command; its result once a quorum has it on disk and it is applied here.

        Raises NotLeader (certainly not accepted), OutcomeUnknown (leadership or PROPOSAL_TIMEOUT ran out).
        """
        began = time.perf_counter()
        future: asyncio.Future[object] = self._loop.create_future()

        def done(result: object) -> None:
            if not future.done():
                future.set_result(result)

        self._node.propose(command, done)
        self._schedule_tick()
        try:
            async with asyncio.timeout(PROPOSAL_TIMEOUT):
                result = await future
        except TimeoutError as error:
            raise OutcomeUnknown(f"no quorum answered within {PROPOSAL_TIMEOUT:g} s") from error
        if isinstance(result, RaftError):
            raise result
        self._on_append(time.perf_counter() - began)
        return result

    async def transfer_leadership(self, to: str | None) -> str:
        """Hand leadership over; the new leader's id. Raises NotLeader, TransferRefused, OutcomeUnknown."""
        term = self._node.term
        target = self._node.transfer_leadership(to)
        self._schedule_tick()
        deadline = self._loop.time() + PROPOSAL_TIMEOUT
        while self._loop.time() < deadline:
            await asyncio.sleep(self._tick_period)
            if self._node.term > term and self._node.leader_id not in (None, self.status().node_id):
                return self._node.leader_id or target
            if self._node.leading_term == term and not self._node.transferring:
                raise TransferRefused(
                    f"{target} did not take over in time, and {self.status().node_id} remains the leader for now; "
                    f"check that {target} is running and reachable: it may still take over when it answers again"
                )
        raise OutcomeUnknown(f"leadership was not taken over by {target} in time")

    @property
    def leading_term(self) -> int | None:
        """Return the term in which this node leads; None if it does not."""
        return self._node.leading_term

    @property
    def term(self) -> int:
        """Return the present term."""
        return self._node.term

    @property
    def leader_id(self) -> str | None:
        """Return the known leader; None if none is known."""
        return self._node.leader_id

    def status(self) -> RaftStatus:
        """Return the status of this node."""
        return self._node.status()

    @property
    def leader_changes(self) -> int:
        """New leaderships that this node has seen."""
        return self._leader_seen.changes

    def round_trips(self) -> dict[str, float]:
        """Peer → round trip of the live connection, in seconds."""
        return self._links.round_trips()

    def snapshot_file(self) -> SnapshotFile | None:
        """The latest snapshot on the disk; None when there is none."""
        return snapshot_file(self._directory)

    def refresh_links(self) -> None:
        """The node's certificate files have changed: re-make the links, one after another, missing nothing."""
        self._links.refresh()

    def check_links(self) -> None:
        """Look now, and not half a second later, whether each peer's certificate is still good."""
        self._links.check_certificates()

    # ------------------------------------------------------------ driving

    def _up(self, peer: str) -> None:
        self._guarded(lambda: self._node.link_up(peer))

    def _down(self, peer: str) -> None:
        self._guarded(lambda: self._node.link_down(peer))

    def _replaced(self, peer: str) -> None:
        self._guarded(lambda: self._node.link_down(peer, replaced=True))

    def _frame(self, peer: str, envelope: pb.Envelope) -> None:
        self._guarded(lambda: self._node.receive(peer, envelope))

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run one step of the node, and have a tick follow it."""
        if self._carried_out(step):
            self._schedule_tick()

    def _carried_out(self, step: Callable[[], None]) -> bool:
        """False when the node has failed, now or before: the process ends before anything else is said.

        A FrameError is the peer's fault, and goes to the connection that brought it.
        """
        if self.fatal.done():
            return False
        try:
            step()
        except FrameError:
            raise
        except StorageError as error:
            log.critical("%s", error)
            self.fatal.set_result(error)
        except Exception as error:
            # Its state is unknown. The timer would stop, and the node would run without taking part.
            log.critical("the Raft core failed", exc_info=error)
            self.fatal.set_result(StorageError(f"the Raft core failed ({error!r}): start the node again"))
        return not self.fatal.done()

    def _schedule_tick(self) -> None:
        """One tick for everything that arrives in the same turn of the loop."""
        if self._tick_soon is None:
            self._tick_soon = self._loop.call_soon(self._tick)

    def _tick(self) -> None:
        self._tick_soon = None
        if self._carried_out(self._node.tick):
            self.last_tick = self._loop.time()
            self._leader_seen.observe(self._node.leader_id, self._node.term)
            self._go_on_applying(self._node.apply_pause())

    def _go_on_applying(self, pause: float | None) -> None:
        """Have a tick apply more of a long log after `pause` seconds; None: there is nothing to apply."""
        if self._apply_soon is not None:
            self._apply_soon.cancel()
        self._apply_soon = None if pause is None else self._loop.call_later(pause, self._schedule_tick)

    def _on_timer(self) -> None:
        self._tick()
        self._timer = self._loop.call_later(self._tick_period, self._on_timer)

    def _offload(self, work: Work, done: Callable[[Any], None]) -> None:
        def in_turns() -> object:
            # A node that stops waits for its snapshot, which does not pause then.
            return work(GilThrottle(self._stopping.wait).pause)

        def finished(worked: asyncio.Future[object]) -> None:
            if worked.cancelled():
                return
            worked.exception()  # Looked at in any case: a node that has failed meanwhile asks for no result.
            self._guarded(lambda: done(worked.result()))

        self._loop.run_in_executor(self._encoder, in_turns).add_done_callback(finished)
