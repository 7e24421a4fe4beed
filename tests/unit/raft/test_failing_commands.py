"""What no peer, no command and no caller can make a node do."""

import pickle
from collections.abc import Callable

import pysyncobj.syncobj
import pytest
from pysyncobj import SyncObj

from coordinator.raft import RaftError, StorageError, UpgradeRequired
from coordinator.raft.engine import FOLLOWER, Core
from coordinator.raft.wire import EngineHost
from tests.unit.raft.lone_node import (
    BASE,
    Clock,
    LoneNode,
    command,
    leader,
)
from zkp.protocol.v1 import raft_pb2 as pb

MEMBERSHIP, VERSION = b"\x02", b"\x03"


@pytest.mark.parametrize("skips", [True, False])
def test_a_command_that_cannot_be_applied_is_skipped(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, skips: bool
) -> None:
    """The bare engine tries it again at every tick for ever, sends no heartbeats meanwhile, and so do all nodes."""
    if not skips:
        monkeypatch.setattr(EngineHost, "apply", lambda wire, entry, index: wire._machine.apply(entry, index))
    node = leader(clock)
    node.propose("poison")
    node.propose("a")
    if not skips:
        for _ in range(3):
            with pytest.raises(RuntimeError, match="cannot be carried out"):
                node.acknowledge("n2", 4)
        assert node.core.raftLastApplied == 2
        return
    node.acknowledge("n2")
    assert isinstance(node.results[0], RaftError)
    assert node.results[1] == "result of a"
    assert node.machine.applied == [(4, b"a")]
    assert node.core.raftLastApplied == 4


def test_a_command_of_a_later_version_stops_the_node(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not skipped: the others understand it, and this node's state would be another one from there on."""
    node = leader(clock)
    node.propose("of a later version")
    node.propose("a")

    def apply(_entry: bytes, index: int) -> object:
        raise UpgradeRequired(f"log entry {index} was written by a later version")

    monkeypatch.setattr(node.machine, "apply", apply)
    with pytest.raises(StorageError, match="log entry 3 was written by a later version"):
        node.acknowledge("n2", 4)
    assert node.core.raftLastApplied == 2
    assert not node.results


@pytest.mark.parametrize("guarded", [True, False])
def test_a_caller_that_fails_does_not_make_its_command_happen_twice(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, guarded: bool
) -> None:
    """The bare engine would count the entry as not applied, and apply it again at the next tick."""
    if not guarded:
        monkeypatch.setattr("coordinator.raft.proposals.notify", lambda listener, *news: listener(*news))
    node = leader(clock)

    def fail(_result: object) -> None:
        raise RuntimeError("whoever asked is in trouble")

    node.raft.propose(b"a", fail)
    node.propose("b")
    if not guarded:
        with pytest.raises(RuntimeError):
            node.acknowledge("n2")
        node.raft.tick()
        assert node.machine.applied == [(3, b"a"), (3, b"a"), (4, b"b")]
        return
    node.acknowledge("n2")
    node.elapse(0.1)
    assert node.machine.applied == [(3, b"a"), (4, b"b")]
    assert node.results == ["result of b"]


def test_a_listener_that_fails_does_not_keep_a_leader_from_stepping_down(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor from leading: the engine is in the middle of its work when it tells of a change."""
    node = leader(clock)

    def fail(*_news: object) -> None:
        raise RuntimeError("whoever listens is in trouble")

    monkeypatch.setattr(node, "leading", fail)
    monkeypatch.setattr(node, "following", fail)
    node.acknowledge("n2", 1, term=9)
    assert (node.term, node.core.role(), node.raft.leading_term) == (9, FOLLOWER, None)
    node.elect("n2")


class _Bomb:
    """Unpickling it would be noticed."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return pytest.fail, ("peers' bytes were unpickled",)


@pytest.mark.parametrize(
    "kind", [MEMBERSHIP, VERSION, b"\x00", b"\x09"], ids=["membership", "version", "own", "unknown"]
)
@pytest.mark.parametrize("ignores", [True, False])
def test_nothing_that_peers_send_is_ever_unpickled(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, kind: bytes, ignores: bool
) -> None:
    """Entries of the engine's own kinds change neither members nor versions: only commands of ours mean anything."""
    if not ignores:
        monkeypatch.setattr(Core, "_SyncObj__doApplyCommand", SyncObj._SyncObj__doApplyCommand)
    monkeypatch.setattr(pickle, "loads", lambda *_, **__: pytest.fail("peers' bytes were unpickled"))
    node = LoneNode(clock, term=3, entries=(BASE,))
    node.connect("n2", "n3")
    bomb = (kind + pickle.dumps(_Bomb()), 2, 3)
    if not ignores and kind != b"\x09":
        with pytest.raises(AssertionError, match="unpickling is disabled"):
            node.append("n2", bomb, term=3, after=(1, 0), commit=2)
        return
    node.append("n2", bomb, term=3, after=(1, 0), commit=2)
    assert node.core.raftLastApplied == 2
    assert sorted(peer.id for peer in node.core.otherNodes) == ["n2", "n3"]
    assert node.machine.applied == ([(2, bomb[0][1:])] if kind == b"\x00" and ignores else [])


def test_the_engine_cannot_unpickle_at_all() -> None:
    """Neither by the name that it uses nor by another."""
    for name in ("loads", "load", "dumps", "dump"):
        with pytest.raises(AssertionError, match="unpickling is disabled"):
            getattr(pysyncobj.syncobj.pickle, name)(b"\x80\x04N.")


def test_a_leader_keeps_leading_whatever_followers_claim(clock: Clock) -> None:
    """Entries, snapshots and orders to campaign from nodes that do not lead its term, or lead an older one."""
    node = leader(clock)
    node.append("n2", (command("forged"), 3, 3), term=3, after=(2, 4), commit=3)
    node.give("n2", timeout_now=pb.TimeoutNow(term=4))
    node.give("n2", envelope_term=2, vote=pb.Vote(term=2))
    node.elapse(0.1)
    assert (node.raft.leading_term, node.core.last_log_index()) == (4, 2)
    assert node.heard == [4]
