"""Raft connections across certificate changes: re-made without interruption, closed when no longer valid."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordinator.raft.transport import connections as module
from coordinator.raft.transport.connections import LinkEvents, PeerConnections
from pki.ca.authority import Authority
from pki.ca.signing import pem_of
from pki.tls.material import TlsMaterial
from pki.x509.identity import Role
from zkp.daemon.settings import Address
from zkp.protocol.v1 import raft_pb2 as pb

HOST = "127.0.0.1"
PATIENCE_S = 60.0


class Network:
    """An authority, and coordinators whose files lie in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.authority = Authority.create("zkp.local", now=datetime.now(UTC))
        self.places = {name: Address(HOST, _free_port()) for name in ("a", "b")}

    def issue(self, name: str, life: timedelta | None = None) -> TlsMaterial:
        """A new certificate in the place of the old one."""
        issued = self.authority.issue(name, Role.COORDINATOR, [HOST], now=datetime.now(UTC), life=life)
        return TlsMaterial.load(issued.write(self.directory, replace=True))


class Node:
    """One side: says hello on each new connection, as Raft does, and remembers what it was told."""

    def __init__(self, network: Network, name: str, material: TlsMaterial) -> None:
        self.network = network
        self.name = name
        self.material = material
        (self.peer,) = set(network.places) - {name}
        self.ups = self.downs = self.replaced = 0
        self.heard: list[int] = []
        self.refused: list[str] = []
        self.sent = 0
        events = LinkEvents(self._up, self._down, self._replaced, self._frame, self.refused.append)
        peers = {self.peer: network.places[self.peer]}
        self.links = PeerConnections(name, network.places[name], peers, material, events)

    def _up(self, peer: str) -> None:
        self.ups += 1
        self.links.send(peer, pb.Envelope(hello=pb.Hello(node_id=self.name)))

    def _down(self, _: str) -> None:
        self.downs += 1

    def _replaced(self, _: str) -> None:
        self.replaced += 1

    def _frame(self, _: str, envelope: pb.Envelope) -> None:
        if envelope.HasField("vote"):
            self.heard.append(envelope.vote.term)

    def say(self) -> None:
        """One more numbered message to the peer."""
        self.sent += 1
        self.links.send(self.peer, pb.Envelope(vote=pb.Vote(term=self.sent)))

    def renew(self) -> int:
        """Take up a new certificate; its serial number."""
        self.network.issue(self.name)
        assert self.material.reload()
        self.links.refresh()
        return self.material.certificate.serial_number


Pair = tuple[Node, Node]


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    monkeypatch.setattr(module, "_RECONNECT_PAUSE_S", 0.0)
    monkeypatch.setattr(module, "_REPLACED_LINGER_S", 0.5)
    return Network(tmp_path)


@pytest.fixture
async def pair(network: Network) -> AsyncIterator[Pair]:
    """Two nodes that are connected; `a` is the one that dials."""
    nodes = Node(network, "a", network.issue("a")), Node(network, "b", network.issue("b"))
    async with running(nodes):
        yield nodes


@asynccontextmanager
async def running(nodes: Pair) -> AsyncIterator[None]:
    for node in nodes:
        await node.links.start()
    await until(lambda: all(node.ups for node in nodes))
    yield
    for node in nodes:
        await node.links.stop()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what a connection does by itself."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - nothing tells tests
            await asyncio.sleep(0.005)


def shown_to(node: Node) -> set[int]:
    """Serial numbers of the certificates behind the node's open connections."""
    now = datetime.now(UTC)
    return {node.material.check_peer(link.tls(), now).serial for link in node.links._open}


@pytest.mark.parametrize("renewed", ["a", "b"])
async def test_a_new_certificate_is_taken_up_without_a_gap(pair: Pair, renewed: str) -> None:
    """Whichever side has it: the connection is replaced, no message is lost, and nobody hears of a peer gone."""
    node, other = pair if renewed == "a" else pair[::-1]
    running = True

    async def talk() -> None:
        while running:
            for each in pair:
                each.say()
            await asyncio.sleep(0.001)

    talking = asyncio.create_task(talk())
    serial = node.renew()
    await until(lambda: node.replaced == other.replaced == 1)
    await until(lambda: shown_to(other) == {serial})
    running = False
    await talking
    await until(lambda: sorted(other.heard) == list(range(1, node.sent + 1)))
    await until(lambda: sorted(node.heard) == list(range(1, other.sent + 1)))
    assert [(each.ups, each.downs, each.refused) for each in pair] == [(2, 0, [])] * 2


async def test_both_sides_may_renew_at_once(pair: Pair) -> None:
    """It ends with one connection, made with both new certificates."""
    a, b = pair
    serials = {a.renew(), b.renew()}
    await until(lambda: shown_to(a) | shown_to(b) == serials)
    assert (a.downs, b.downs) == (0, 0)


async def test_a_certificate_that_the_peer_refuses_does_not_cost_the_connection(pair: Pair, network: Network) -> None:
    """The old one goes on and the new one is tried again, until the peer has the root that it needs."""
    a, b = pair
    before = shown_to(b)
    old, new = network.authority, Authority.create("zkp.local", now=datetime.now(UTC))
    issued = new.issue("a", Role.COORDINATOR, [HOST], now=datetime.now(UTC)).write(network.directory, replace=True)
    both = old.roots + new.roots
    issued.ca.write_bytes(pem_of(*both))
    assert a.material.reload()
    a.links.refresh()
    await until(lambda: len(b.refused) >= 2)
    assert set(b.refused) == {"untrusted"}
    assert shown_to(b) == before
    a.say()
    await until(lambda: b.heard == [1])

    b.material.files.ca.write_bytes(issued.ca.read_bytes())
    assert b.material.reload()
    b.links.refresh()

    await until(lambda: shown_to(b) == {a.material.certificate.serial_number})
    assert (a.downs, b.downs) == (0, 0)


async def test_a_revoked_peer_is_cut_off_and_stays_out(pair: Pair) -> None:
    """At once when this node is told, and its attempts to come back are refused in the handshake."""
    a, b = pair
    b.material.revoke([a.material.certificate.serial_number])
    b.links.check_certificates()
    await until(lambda: (a.downs, b.downs) == (1, 1))
    await until(lambda: b.refused.count("revoked") >= 3)
    assert b.ups == 1

    a.renew()
    await until(lambda: b.ups == 2)


async def test_a_revocation_is_noticed_without_being_told(pair: Pair) -> None:
    """As when a list on the disk has changed."""
    a, b = pair
    a.material.revoke([b.material.certificate.serial_number])
    await until(lambda: (a.downs, b.downs) == (1, 1))


async def test_a_connection_ends_with_the_certificate_that_made_it(network: Network) -> None:
    """An open connection is no reason to trust a certificate that has expired."""
    a = Node(network, "a", network.issue("a", timedelta(seconds=4)))
    b = Node(network, "b", network.issue("b"))
    async with running((a, b)):
        await until(lambda: b.downs == 1)
        assert "expired" in b.refused
        a.renew()
        await until(lambda: b.ups == 2)


async def test_an_old_connection_is_made_anew(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the files do: a handshake is trusted for an hour, not for months."""
    a, b = pair
    with monkeypatch.context() as aged:
        aged.setattr(module, "_MAX_CONNECTION_AGE_S", 0.0)
        a.links.check_certificates()
    await until(lambda: a.replaced == b.replaced == 1)
    assert (a.downs, b.downs) == (0, 0)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
