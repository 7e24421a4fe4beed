"""Who leads: asking before campaigning, one vote a term, one vote a voter, and standing down in time."""

import pytest

from coordinator.raft import engine
from coordinator.raft.elections import Elections
from coordinator.raft.engine import CANDIDATE, FOLLOWER, LEADER, Core
from coordinator.raft.errors import OutcomeUnknown
from coordinator.raft.membership import MemberState
from coordinator.raft.storage.journal import Entry
from coordinator.raft.transport import framing
from tests.unit.raft.lone_node import ELECTION_TIMEOUT, NO_OP, Clock, LoneNode, command
from zkp.protocol.v1 import raft_pb2 as pb

FOUR = ("n2", "n3", "n4", "n5")
LOG = ((NO_OP, 1, 0), (NO_OP, 2, 3), (command("a"), 3, 3))


def bare(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a kind of frame reach the engine as it is, as if this shell were not there."""
    monkeypatch.setattr(
        Elections, f"on_{name}", lambda _, core, peer, envelope: core.step(peer, framing.to_engine(envelope))
    )


# ------------------------------------------------------------ asking first


@pytest.mark.parametrize("asks_first", [True, False])
def test_a_node_that_nobody_would_elect_keeps_its_term(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, asks_first: bool
) -> None:
    """However long it waits; the bare engine would raise its term each time, and depose the leader on its return."""
    if not asks_first:
        monkeypatch.setattr(Elections, "campaign_if_due", lambda _elections, _core, _peers: None)
    node = LoneNode(clock, term=3, entries=LOG)
    node.connect("n2")
    node.elapse(10)
    assert (node.term == 3) is asks_first
    assert bool(node.taken("pre_vote_request")) is asks_first


@pytest.mark.parametrize("holds_back", [True, False])
@pytest.mark.parametrize("standing", [MemberState.VOTER, MemberState.CATCHING_UP])
def test_a_process_that_stalls_between_two_looks_at_the_clock_starts_no_campaign(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, standing: MemberState, holds_back: bool
) -> None:
    """The election was not due when the shell looked, and is when the engine does: nobody was asked yet."""
    if not holds_back:
        monkeypatch.setattr(Core, "permit_campaign", lambda _core, _permitted: None)
    node = LoneNode(clock, standing=standing, term=3, entries=LOG)
    node.connect("n2")
    looks = iter([clock.time] * 2)
    engine.use_clock(lambda: next(looks, clock.time + 2 * ELECTION_TIMEOUT))
    node.raft.tick()
    assert (node.term == 3) is holds_back


def test_a_majority_that_would_vote_starts_the_campaign(clock: Clock) -> None:
    """At once, in the next term, with the vote for itself on the disk before anybody hears of it."""
    node = LoneNode(clock, term=3, entries=LOG)
    node.connect("n2", "n3")
    asked = node.wait_for("pre_vote_request")
    assert {sent.peer for sent in asked} == {"n2", "n3"}
    assert asked[0].envelope.pre_vote_request == pb.PreVoteRequest(term=4, last_log_index=3, last_log_term=3)
    assert asked[0].envelope.term == 3
    node.give("n3", pre_vote_answer=pb.PreVoteAnswer(term=4, granted=True))
    requests = node.taken("request_vote")
    assert {sent.peer for sent in requests} == {"n2", "n3"}
    for sent in requests:
        assert sent.envelope.request_vote == pb.RequestVote(term=4, last_log_index=3, last_log_term=3)
        assert sent.durable_vote() == {"term": 4, "voted_for": "n1"}


def test_refusals_start_no_campaign(clock: Clock) -> None:
    """Nor do answers to an older question."""
    node = LoneNode(clock, term=3, entries=LOG)
    node.connect("n2", "n3")
    node.wait_for("pre_vote_request")
    node.give("n2", pre_vote_answer=pb.PreVoteAnswer(term=4, granted=False))
    node.give("n3", pre_vote_answer=pb.PreVoteAnswer(term=3, granted=True))
    assert not node.taken("request_vote")
    assert node.term == 3


@pytest.mark.parametrize("looks", [True, False])
def test_nobody_is_encouraged_while_the_leader_is_heard(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, looks: bool
) -> None:
    """A peer that lost its connection to the leader would otherwise depose it."""
    if not looks:
        monkeypatch.setattr("coordinator.raft.elections.would_vote", lambda **_: True)
    node = LoneNode(clock, term=3, entries=LOG)
    node.connect("n2", "n3")
    node.append("n2", term=3, after=(3, 3))
    question = pb.PreVoteRequest(term=4, last_log_index=3, last_log_term=3)
    node.give("n3", pre_vote_request=question)
    assert [sent.envelope.pre_vote_answer.granted for sent in node.taken("pre_vote_answer")] == [not looks]
    node.elapse(ELECTION_TIMEOUT + 0.01)
    node.receive("n3", pre_vote_request=question)
    assert [sent.envelope.pre_vote_answer.granted for sent in node.taken("pre_vote_answer")] == [True]


def test_a_leader_encourages_nobody(clock: Clock) -> None:
    """It hears itself."""
    node = LoneNode(clock)
    node.connect("n2", "n3")
    node.elect("n2")
    question = pb.PreVoteRequest(term=node.term + 1, last_log_index=99, last_log_term=99)
    node.give("n3", pre_vote_request=question)
    assert [sent.envelope.pre_vote_answer.granted for sent in node.taken("pre_vote_answer")] == [False]


def test_a_question_moves_no_term(clock: Clock) -> None:
    """Not even from a peer whose own term is higher: asking must disturb nobody."""
    node = LoneNode(clock)
    node.connect("n2", "n3")
    node.elect("n2")
    term = node.term
    question = pb.PreVoteRequest(term=term + 6, last_log_index=99, last_log_term=99)
    node.give("n3", envelope_term=term + 5, pre_vote_request=question)
    assert (node.term, node.raft.leading_term) == (term, term)


@pytest.mark.parametrize("answered", ["before", "after"])
def test_answers_that_come_after_the_leader_start_no_campaign(clock: Clock, answered: str) -> None:
    """The leader was only late: what the others would have done meanwhile is out of date."""
    node = LoneNode(clock, term=3, entries=LOG)
    node.connect("n2", "n3")
    node.wait_for("pre_vote_request")
    answer = pb.PreVoteAnswer(term=4, granted=True)
    if answered == "before":
        node.receive("n3", pre_vote_answer=answer)
    node.append("n2", term=3, after=(3, 3))
    if answered == "after":
        node.give("n3", pre_vote_answer=answer)
    node.elapse(3 * ELECTION_TIMEOUT)
    assert node.term == 3
    assert not node.taken("request_vote")


def test_a_leader_whose_connection_closes_is_missed_at_once(clock: Clock) -> None:
    """A process that dies closes its connections: the others need not wait until the silence is long enough."""
    node = LoneNode(clock, term=3, entries=LOG)
    node.connect("n2", "n3")
    node.append("n2", term=3, after=(3, 3))
    node.raft.link_down("n2")
    node.elapse(ELECTION_TIMEOUT / 2)
    assert node.taken("pre_vote_request")
    node.give("n3", pre_vote_request=pb.PreVoteRequest(term=4, last_log_index=3, last_log_term=3))
    assert node.taken("pre_vote_answer")[0].envelope.pre_vote_answer.granted


def test_another_followers_connection_is_not_missed(clock: Clock) -> None:
    """It is the leader's silence that counts."""
    node = LoneNode(clock, term=3, entries=LOG)
    node.connect("n2", "n3")
    node.append("n2", term=3, after=(3, 3))
    node.raft.link_down("n3")
    node.elapse(ELECTION_TIMEOUT / 2)
    assert not node.taken("pre_vote_request")


# ------------------------------------------------------------ votes


@pytest.mark.parametrize("counts_voters", [True, False])
def test_a_voter_counts_once(clock: Clock, monkeypatch: pytest.MonkeyPatch, counts_voters: bool) -> None:
    """The bare engine counts messages: a repeated vote would elect a leader without a majority."""
    if not counts_voters:
        bare("vote", monkeypatch)
    node = LoneNode(clock, peers=FOUR)
    node.connect(*FOUR)
    node.campaign("n2", "n3")
    for _ in range(3):
        node.give("n2", vote=pb.Vote(term=node.term))
    assert (node.core.role() == CANDIDATE) is counts_voters
    node.give("n3", vote=pb.Vote(term=node.term))
    assert node.core.role() == LEADER


def test_a_vote_in_a_later_term_counts_again(clock: Clock) -> None:
    """What is counted once is a voter's vote in one term."""
    node = LoneNode(clock, peers=FOUR)
    node.connect(*FOUR)
    for _ in range(2):
        node.campaign("n2", "n3")
        node.give("n2", vote=pb.Vote(term=node.term))
        assert node.core.role() == CANDIDATE
    node.give("n3", vote=pb.Vote(term=node.term))
    assert node.core.role() == LEADER


def test_a_vote_is_on_the_disk_before_it_is_given(clock: Clock) -> None:
    """And it is the only one in its term, also after a loss of power."""
    node = LoneNode(clock, term=3, entries=LOG)
    node.connect("n2", "n3")
    request = pb.RequestVote(term=4, last_log_index=3, last_log_term=3)
    node.give("n2", envelope_term=4, request_vote=request)
    (given,) = node.taken("vote")
    assert given.peer == "n2"
    assert given.durable_vote() == {"term": 4, "voted_for": "n2"}
    node.give("n3", envelope_term=4, request_vote=request)
    assert not node.taken("vote")
    node.lose_power()
    node.connect("n2", "n3")
    node.give("n3", envelope_term=4, request_vote=request)
    assert not node.taken("vote")


@pytest.mark.parametrize("last", [(2, 3), (9, 2)], ids=["shorter", "of an older term"])
def test_a_less_complete_log_gets_no_vote(clock: Clock, last: tuple[int, int]) -> None:
    """It might lack what is committed. Its term is taken over all the same."""
    node = LoneNode(clock, term=3, entries=LOG)
    node.connect("n2")
    index, term = last
    node.give("n2", envelope_term=7, request_vote=pb.RequestVote(term=7, last_log_index=index, last_log_term=term))
    assert node.term == 7
    assert not node.taken("vote")


def test_a_wiped_node_neither_votes_nor_campaigns(clock: Clock) -> None:
    """It may have voted before its disk was lost: not until it has caught up, and not when it is told to."""
    node = LoneNode(clock, standing=MemberState.CATCHING_UP)
    node.connect("n2", "n3", last_log_index=50)
    node.give("n2", envelope_term=4, request_vote=pb.RequestVote(term=4, last_log_index=50, last_log_term=3))
    node.give("n2", pre_vote_request=pb.PreVoteRequest(term=5, last_log_index=50, last_log_term=3))
    assert not node.taken("vote")
    assert [sent.envelope.pre_vote_answer.granted for sent in node.taken("pre_vote_answer")] == [False]
    node.append("n2", (NO_OP, 2, 4), term=4, after=(1, 0))
    node.give("n2", timeout_now=pb.TimeoutNow(term=4))
    node.elapse(10)
    assert node.term == 4
    assert not node.taken("request_vote")
    assert not node.taken("pre_vote_request")


def test_a_node_without_a_cluster_does_nothing(clock: Clock) -> None:
    """It has no term to speak of, and no log."""
    node = LoneNode(clock, standing=None)
    node.raft.link_up("n2")
    node.hello("n2", cluster_id="", last_log_index=0)
    node.give("n2", envelope_term=9, request_vote=pb.RequestVote(term=9, last_log_index=50, last_log_term=3))
    node.elapse(10)
    assert {sent.kind for sent in node.sent} == {"hello"}
    assert node.raft.status().role == "waiting"


# ------------------------------------------------------------ standing down


@pytest.mark.parametrize("looks", [True, False])
def test_a_higher_term_deposes_the_leader_in_whatever_it_is_shown(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, looks: bool
) -> None:
    """The bare engine looks at terms in requests only, and would go on leading."""
    if not looks:
        monkeypatch.setattr(Core, "step_down", lambda _core, _peer, _term: None)
    node = LoneNode(clock)
    node.connect("n2", "n3")
    node.elect("n2", "n3")
    term = node.term
    node.propose("a")
    node.acknowledge("n2", 1, term=term + 5)
    assert (node.core.role() == FOLLOWER) is looks
    assert (node.term == term + 5) is looks
    assert bool(node.results) is looks
    if looks:
        assert isinstance(node.results[0], OutcomeUnknown)
        assert node.heard == [term, None]
        assert node.durable_vote() == {"term": term + 5, "voted_for": None}


def test_a_leader_of_an_older_term_is_told(clock: Clock) -> None:
    """The bare engine stays silent, so that two nodes with different terms would ignore each other for ever."""
    node = LoneNode(clock, term=8, entries=LOG)
    node.connect("n2", "n3")
    node.append("n2", (command("b"), 4, 7), term=7, after=(3, 3))
    (answer,) = node.taken("next_index")
    assert answer.envelope.term == 8
    assert not answer.envelope.next_index.success
    part = pb.InstallSnapshot(term=7, commit_index=3, data=b"x", first=True, last=False)
    node.give("n2", envelope_term=7, install_snapshot=part)
    assert [sent.envelope.term for sent in node.taken("next_index")] == [8]
    assert node.log() == list(LOG)


@pytest.mark.parametrize("checks_quorum", [True, False])
def test_a_leader_that_is_cut_off_steps_down_within_an_election_timeout(clock: Clock, checks_quorum: bool) -> None:
    """And who waits is told that the outcome is unknown. The engine's own default is to believe for 30 s."""
    node = LoneNode(clock)
    node.connect("n2", "n3")
    node.elect("n2", "n3")
    if not checks_quorum:
        node.core.conf.leaderFallbackTimeout = 30.0
    term = node.term
    node.propose("a")
    node.elapse(ELECTION_TIMEOUT + 0.02)
    assert (node.raft.leading_term is None) is checks_quorum
    assert [type(result) for result in node.results] == ([OutcomeUnknown] if checks_quorum else [])
    assert node.heard == ([term, None] if checks_quorum else [term])


def test_one_answering_peer_of_two_is_enough_to_go_on(clock: Clock) -> None:
    """A majority is in touch."""
    node = LoneNode(clock)
    node.connect("n2", "n3")
    node.elect("n2", "n3")
    for _ in range(40):
        node.elapse(0.05)
        node.acknowledge("n2")
    assert node.raft.leading_term == node.term


def test_leadership_counts_once_the_state_is_current(clock: Clock) -> None:
    """Between election and the first committed entry of the term nothing is promised and nothing accepted."""
    node = LoneNode(clock, term=3, entries=LOG)
    node.connect("n2", "n3")
    node.campaign("n2")
    node.give("n2", vote=pb.Vote(term=4))
    assert node.raft.is_engine_leader
    assert node.raft.leading_term is None
    assert node.heard == []
    node.acknowledge("n2")
    assert node.machine.applied == [(3, b"a")]
    assert node.heard == [4]


def test_a_lone_node_elects_itself_and_commits_at_once(clock: Clock) -> None:
    """A cluster of one, for trying things out; what it commits is on its disk."""
    node = LoneNode(clock, peers=(), standing=None, bootstrap=True)
    node.elapse(2 * ELECTION_TIMEOUT + 0.05)
    assert node.raft.leading_term == 1
    durable: list[list[Entry]] = []
    node.machine.on_apply = lambda: durable.append(node.durable_entries())
    node.propose("a")
    assert node.results == ["result of a"]
    assert durable[0][-1] == (command("a"), 3, 1)
