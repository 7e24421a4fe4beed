"""Connections between simulated nodes: in order within one, lost with it, delayed and cut at will."""

import functools
import random
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from coordinator.raft.transport import framing
from zkp.protocol.v1 import raft_pb2 as pb


class Scheduler(Protocol):
    def at(self, delay: float, action: Callable[[], None]) -> None: ...


class Endpoint(Protocol):
    """What the network needs of a node."""

    alive: bool

    def link_up(self, peer: str) -> None: ...
    def link_down(self, peer: str) -> None: ...
    def frame(self, peer: str, envelope: pb.Envelope) -> None: ...


class _Connection:
    """One TCP-like connection; frames are on their way per direction until it breaks."""

    def __init__(self) -> None:
        self.open = True
        self.lossy = False
        """A frame was lost: TCP would not go on after that, so neither may the connection."""
        self.dead = ""
        """The end whose process is gone."""
        self.last_arrival: dict[str, float] = {}
        self.on_the_way: Counter[str] = Counter()
        """Receiver → bytes."""


class Network:
    """All connections of a cluster."""

    def __init__(self, scheduler: Scheduler, rng: random.Random, clock: Callable[[], float]) -> None:
        self._scheduler = scheduler
        self._rng = rng
        self._clock = clock
        self._nodes: dict[str, Endpoint] = {}
        self._connections: dict[frozenset[str], _Connection] = {}
        self._blocked: set[tuple[str, str]] = set()
        self._held: dict[tuple[str, str], list[Callable[[], None]]] = {}
        """Sender, receiver → what has arrived and is not let through yet."""
        self.max_delay = 0.002

    def join(self, name: str, node: Endpoint) -> None:
        self._nodes[name] = node
        for other in self._nodes:
            if other != name:
                self._reconnect_later(name, other)

    def block(self, sender: str, receiver: str) -> None:
        """Let nothing through in this direction; the connection notices after a while."""
        self._blocked.add((sender, receiver))
        connection = self._connections.get(frozenset((sender, receiver)))
        if connection is not None:
            self._scheduler.at(3.0, lambda: self._break_if_lossy(sender, receiver, connection))

    def hold(self, sender: str, receiver: str) -> None:
        """Let nothing through in this direction until `release`, and lose nothing: then it comes, in order."""
        self._held.setdefault((sender, receiver), [])

    def release(self, sender: str, receiver: str) -> None:
        for deliver in self._held.pop((sender, receiver), ()):
            deliver()

    def release_all(self) -> None:
        for sender, receiver in list(self._held):
            self.release(sender, receiver)

    def heal(self) -> None:
        """Open every direction; connections that lost something are found to be broken."""
        self._blocked.clear()
        for pair, connection in list(self._connections.items()):
            one, other = sorted(pair)
            self._break_if_lossy(one, other, connection)

    def drop_connection(self, one: str, other: str) -> None:
        """Break the connection; whatever was on its way is lost."""
        connection = self._connections.pop(frozenset((one, other)), None)
        if connection is None:
            return
        connection.open = False
        for name, peer in ((one, other), (other, one)):
            if self._nodes[name].alive and connection.dead != name:
                self._nodes[name].link_down(peer)
        self._reconnect_later(one, other)

    def drop_node(self, name: str) -> None:
        """A process is gone. What it had sent still arrives; then its peers see the connections close."""
        for other in self._nodes:
            connection = self._connections.get(frozenset((name, other)))
            if connection is not None:
                connection.dead = name
                delay = max(0.0, connection.last_arrival.get(other, 0.0) - self._clock())
                self._scheduler.at(delay, functools.partial(self.drop_connection, name, other))

    def send(self, sender: str, receiver: str, envelope: pb.Envelope, *, not_before: float = 0.0) -> None:
        """not_before: when the sender comes to it."""
        connection = self._connections.get(frozenset((sender, receiver)))
        if connection is None or connection.dead == sender:
            return
        if (sender, receiver) in self._blocked:
            connection.lossy = True
            return
        body = framing.pack(envelope)[framing.LENGTH.size :]
        connection.on_the_way[receiver] += len(body)
        arrival = max(self._clock(), not_before) + self._rng.uniform(0.0001, self.max_delay)
        arrival = max(arrival, connection.last_arrival.get(receiver, 0.0))
        connection.last_arrival[receiver] = arrival

        def deliver() -> None:
            connection.on_the_way[receiver] -= len(body)
            if connection.open and connection.dead != receiver and self._nodes[receiver].alive:
                self._nodes[receiver].frame(sender, framing.unpack(body))

        def arrive() -> None:
            held = self._held.get((sender, receiver))
            if held is None:
                deliver()
            else:
                held.append(deliver)

        self._scheduler.at(arrival - self._clock(), arrive)

    def backlog(self, sender: str, receiver: str) -> int:
        """Bytes of this node's that are on their way."""
        connection = self._connections.get(frozenset((sender, receiver)))
        return 0 if connection is None else connection.on_the_way[receiver]

    def _break_if_lossy(self, one: str, other: str, connection: _Connection) -> None:
        if connection.lossy and connection.open:
            self.drop_connection(one, other)

    def _reconnect_later(self, one: str, other: str) -> None:
        self._scheduler.at(self._rng.uniform(0.01, 0.1), lambda: self._connect(one, other))

    def _connect(self, one: str, other: str) -> None:
        pair = frozenset((one, other))
        if pair in self._connections:
            return
        blocked = (one, other) in self._blocked or (other, one) in self._blocked
        if blocked or not (self._nodes[one].alive and self._nodes[other].alive):
            self._reconnect_later(one, other)
            return
        self._connections[pair] = _Connection()
        self._nodes[one].link_up(other)
        self._nodes[other].link_up(one)
