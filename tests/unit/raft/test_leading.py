"""A leader: what counts as committed, and who hears of it."""

from collections.abc import Callable

import pytest

from coordinator.raft import MAX_COMMAND_BYTES, NotLeader, OutcomeUnknown
from coordinator.raft.engine import LEADER, Core
from coordinator.raft.errors import StorageError
from coordinator.raft.node import RaftNode
from coordinator.raft.storage.journal import Journal
from coordinator.raft.transport import framing
from tests.unit.raft.lone_node import BASE, HEARTBEAT, Clock, LoneNode, command, indexes_for, leader
from zkp.protocol.v1 import raft_pb2 as pb

# ------------------------------------------------------------ accepting


def test_a_command_is_accepted_when_a_majority_has_it(clock: Clock) -> None:
    """Not before; and the caller gets what the state machine answered."""
    node = leader(clock)
    node.propose("a")
    assert node.results == []
    node.acknowledge("n3")
    assert node.results == ["result of a"]
    assert node.machine.applied == [(3, b"a")]


def test_one_of_four_peers_is_no_majority(clock: Clock) -> None:
    """Of five, three must have it; the same one twice is one."""
    node = leader(clock, peers=("n2", "n3", "n4", "n5"))
    node.propose("a")
    node.acknowledge("n2")
    node.acknowledge("n2")
    assert node.results == []
    node.acknowledge("n5")
    assert node.results == ["result of a"]


@pytest.mark.parametrize("size", [0, MAX_COMMAND_BYTES + 1])
def test_a_command_of_a_wrong_size_is_refused(clock: Clock, size: int) -> None:
    """An empty one, or one that the engine would send in parts."""
    node = leader(clock)
    with pytest.raises(ValueError, match=f"a command of {size} bytes; 1 to {MAX_COMMAND_BYTES} are allowed"):
        node.raft.propose(bytes(size), node.results.append)


def test_a_command_of_the_largest_size_is_accepted(clock: Clock) -> None:
    """In one message, like any other."""
    node = leader(clock)
    node.raft.propose(b"x" * MAX_COMMAND_BYTES, node.results.append)
    node.raft.tick()
    assert indexes_for(node, "n2") == [[3]]
    node.acknowledge("n2")
    assert len(node.results) == 1


def test_a_follower_accepts_nothing(clock: Clock) -> None:
    """NotLeader says who leads, if it is known; nothing is forwarded."""
    node = LoneNode(clock, term=3, entries=(BASE,))
    node.connect("n2", "n3")
    with pytest.raises(NotLeader) as nobody:
        node.propose("a")
    node.append("n2", term=3, after=(1, 0))
    with pytest.raises(NotLeader) as known:
        node.propose("a")
    assert (nobody.value.leader_id, known.value.leader_id) == (None, "n2")
    assert str(known.value) == "this node does not lead; n2 does"


def test_an_elected_node_accepts_nothing_before_its_state_is_current(clock: Clock) -> None:
    """It does not know yet what was accepted before."""
    node = LoneNode(clock, term=3, entries=(BASE,))
    node.connect("n2", "n3")
    node.campaign("n2")
    node.give("n2", vote=pb.Vote(term=node.term))
    assert node.core.role() == LEADER
    with pytest.raises(NotLeader):
        node.propose("a")


def test_leadership_lost_on_the_way_leaves_the_outcome_unknown(clock: Clock) -> None:
    """For each waiting caller, once; the command may be accepted later, and is never sent to another leader."""
    node = leader(clock)
    node.propose("a")
    node.raft.propose(b"b", node.results.append)  # in the engine's queue still
    node.receive("n2", envelope_term=9, next_index=pb.NextIndex(next_index=1))
    node.raft.tick()
    assert [type(result) for result in node.results] == [OutcomeUnknown, OutcomeUnknown]
    node.append("n2", term=9, after=(3, 4), commit=3)
    node.elapse(0.1)
    assert node.machine.applied == [(3, b"a")]
    assert len(node.results) == 2
    assert {sent.kind for sent in node.sent} <= {"append_entries", "next_index"}


def test_a_command_whose_entry_was_replaced_is_unknown_to_its_caller_and_never_applied(clock: Clock) -> None:
    """Another leader's entry took its place."""
    node = leader(clock)
    node.propose("a")
    node.append("n2", (command("other"), 3, 9), term=9, after=(2, 4), commit=3)
    assert [type(result) for result in node.results] == [OutcomeUnknown]
    assert node.machine.applied == [(3, b"other")]


def test_stopping_tells_everybody_who_waits(clock: Clock) -> None:
    """The process may end before a majority answers."""
    node = leader(clock)
    node.propose("a")
    node.raft.close()
    assert [type(result) for result in node.results] == [OutcomeUnknown]


# ------------------------------------------------------------ acknowledgements


@pytest.mark.parametrize("looks", [True, False])
def test_an_acknowledgement_of_an_older_term_counts_for_nothing(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, looks: bool
) -> None:
    """The engine's acknowledgements carry no term: what the peer stored then may have been replaced since."""
    if not looks:
        monkeypatch.setattr(
            RaftNode,
            "_on_next_index",
            lambda _node, core, peer, envelope: core.step(peer, framing.to_engine(envelope)),
        )
    node = leader(clock)
    node.propose("a")
    node.acknowledge("n2", 3, term=3)
    assert bool(node.results) is not looks
    node.acknowledge("n2", 3)
    assert node.results == ["result of a"]


@pytest.mark.parametrize("syncs", [True, False])
def test_a_leader_counts_itself_once_its_own_disk_has_the_entry(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, syncs: bool
) -> None:
    """It may send before it has stored, but nothing is applied, or answered, that its disk lacks."""
    if not syncs:
        monkeypatch.setattr(Journal, "setRaftCommitIndex", lambda _journal, _index: None)
    node = leader(clock)
    durable: list[int] = []
    node.machine.on_apply = lambda: durable.append(node.durable_entries()[-1][1])
    node.raft.propose(b"a", node.results.append)
    monkeypatch.setattr(node.raft._journal, "sync", _once_late(node.raft._journal))
    node.raft.tick()
    node.acknowledge("n2")
    assert node.results == ["result of a"]
    assert durable == ([3] if syncs else [2])


def _once_late(journal: Journal) -> Callable[[], None]:
    """A sync that does not come at the end of the tick in which the entry was made."""
    calls = iter(range(1_000))
    return lambda: None if next(calls) == 0 else Journal.sync(journal)


def test_a_leader_whose_disk_fails_answers_nobody(clock: Clock) -> None:
    """The tick says that the process must end, and the command was not applied."""
    node = leader(clock)
    node.disk.full = True
    with pytest.raises(StorageError, match="No space left on device"):
        node.propose("x" * 5_000)
    with pytest.raises(StorageError):
        node.acknowledge("n2", 3)
    assert (node.results, node.machine.applied) == ([], [])


@pytest.mark.parametrize("learner", [False, True])
@pytest.mark.parametrize("remembers", [True, False])
def test_a_peer_that_refuses_several_messages_is_met_at_the_first(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, remembers: bool, learner: bool
) -> None:
    """Each is refused, and the later ones lead forwards again: so the two would never agree.

    What it has agreed to since makes an end of that: then it may have refused something new.
    """
    if not remembers:
        monkeypatch.setattr(Core, "_rewind", lambda _core, _peer, following: following)
    node = leader(clock)
    for text in "abcdef":
        node.propose(text)
    node.taken("append_entries")
    for following in (4, 7):
        node.give("n2", next_index=pb.NextIndex(next_index=following, reset=True, success=False, learner=learner))
    node.taken("append_entries")
    node.give("n2", next_index=pb.NextIndex(next_index=7, reset=True, success=False, learner=learner))
    node.elapse(HEARTBEAT + 0.01)
    assert indexes_for(node, "n2")[0][0] == (4 if remembers else 7)
    node.give("n2", next_index=pb.NextIndex(next_index=5, reset=False, success=True, learner=learner))
    node.give("n2", next_index=pb.NextIndex(next_index=6, reset=True, success=False, learner=learner))
    node.elapse(HEARTBEAT + 0.01)
    assert indexes_for(node, "n2")[0][0] == 6


@pytest.mark.parametrize("clamps", [True, False])
def test_a_peer_with_a_longer_log_does_not_lead_the_leader_astray(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, clamps: bool
) -> None:
    """It asks to go on behind its own end; the bare engine follows it there, finds no entry, and stops for good."""
    if not clamps:
        monkeypatch.setattr(Core, "step_next_index", Core.step)
    node = leader(clock)
    node.give("n2", next_index=pb.NextIndex(next_index=90, reset=True, success=False))
    if not clamps:
        with pytest.raises(IndexError):
            node.elapse(HEARTBEAT + 0.01)
        return
    node.elapse(HEARTBEAT + 0.01)
    (heartbeat, *_) = [sent for sent in node.taken("append_entries") if sent.peer == "n2"]
    assert heartbeat.envelope.append_entries.prev_index == 2


@pytest.mark.parametrize("keeps", [True, False])
def test_an_acknowledgement_does_not_rewind_what_is_on_its_way(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    """The bare engine sends everything behind each acknowledged entry again, as often as there are answers."""
    if not keeps:
        monkeypatch.setattr(Core, "step_next_index", Core.step)
    node = leader(clock)
    for text in "abc":
        node.propose(text)
    assert indexes_for(node, "n2") == [[3], [4], [5]]
    node.acknowledge("n2", 3)
    sent_again = [index for indexes in indexes_for(node, "n2") for index in indexes]
    assert sent_again == ([] if keeps else [4, 5])


def test_a_broken_connection_begins_again_behind_what_was_acknowledged(clock: Clock) -> None:
    """What was on its way is lost with it."""
    node = leader(clock)
    for text in "abc":
        node.propose(text)
    node.acknowledge("n2", 3)
    node.raft.link_down("n2")
    node.connect("n2")
    node.taken("append_entries")
    node.elapse(HEARTBEAT + 0.01)
    assert indexes_for(node, "n2")[0] == [4, 5]


def test_a_peer_that_lost_its_disk_counts_for_nothing_until_it_has_caught_up(clock: Clock) -> None:
    """Neither what it acknowledged before nor what it says while it learns commits anything."""
    node = leader(clock)
    node.propose("a")
    node.acknowledge("n2", 2)
    node.give("n2", next_index=pb.NextIndex(next_index=4, success=True, learner=True))
    assert node.results == []
    node.elapse(HEARTBEAT + 0.01)
    told = [sent for sent in node.taken("append_entries") if sent.peer == "n2"][-1]
    assert told.envelope.append_entries.vouched_index > 3
    node.acknowledge("n3")
    assert node.results == ["result of a"]
    node.acknowledge("n2")
    node.propose("b")
    node.acknowledge("n2")
    assert node.results == ["result of a", "result of b"]
