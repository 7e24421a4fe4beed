"""Election guards in front of the engine: when to campaign, pre-votes to grant, votes to count.

The engine decides votes. Before one of its campaigns begins, a majority must have said that it would vote for this
node (pre-vote), or the leader must have asked for it (transfer). No clock but the engine's, no sockets.
"""

from collections.abc import Callable, Iterable

from coordinator.raft import engine
from coordinator.raft.engine import LEADER, Core
from coordinator.raft.membership import Membership, MemberState
from coordinator.raft.prevote import PreVote, would_vote
from coordinator.raft.transport import framing
from zkp.protocol.v1 import raft_pb2 as pb

Send = Callable[[str, pb.Envelope], None]


class Elections:
    """election_timeout: seconds; voters: members of the cluster, this node included."""

    def __init__(
        self, node_id: str, voters: int, election_timeout: float, membership: Membership, send: Send
    ) -> None:
        self._election_timeout = election_timeout
        self._membership = membership
        self._send = send
        self._prevote = PreVote(node_id, voters)
        self._leader_heard = float("-inf")
        self._votes: set[tuple[int, str]] = set()

    # ------------------------------------------------------------ contact with the leader

    def on_leader_contact(self) -> None:
        """Record contact with the leader of the current term; pending pre-vote answers are discarded."""
        self._leader_heard = engine.now()
        self._prevote.forget()

    def postpone(self, core: Core, seconds: float) -> None:
        """This node did not run for so long: what was sent to it meanwhile is not read yet."""
        self._leader_heard = min(self._leader_heard + seconds, engine.now())
        core.postpone(seconds)

    def silence(self) -> float:
        """Return the seconds since the last contact with the leader."""
        return engine.now() - self._leader_heard

    def on_leader_lost(self, core: Core) -> None:
        """Campaign early after the connection to the leader closed: an exiting process closes its own."""
        self._leader_heard = float("-inf")
        spread = (core.random_election_timeout() - self._election_timeout) / 4
        core.campaign_at(min(core.election_deadline(), engine.now() + spread))

    # ------------------------------------------------------------ campaigning

    def campaign_if_due(self, core: Core, peers: Iterable[str]) -> None:
        """Let the engine's election begin only after a won pre-vote, or when the leader asked for it."""
        time = engine.now()
        core.permit_campaign(False)
        if core.role() == LEADER or core.election_deadline() >= time:
            return
        term = core.raftCurrentTerm + 1
        if self._membership.standing is not MemberState.VOTER:
            core.campaign_at(time + core.random_election_timeout())
        elif core.transfer_pending() or self._prevote.won(term):
            core.permit_campaign(True)
        else:
            self._prevote.ask(term)
            if self._prevote.won(term):
                core.permit_campaign(True)
                return
            core.campaign_at(time + core.random_election_timeout())
            request = pb.PreVoteRequest(
                term=term, last_log_index=core.last_log_index(), last_log_term=core.last_log_term()
            )
            for peer in sorted(peers):
                self._send(peer, pb.Envelope(pre_vote_request=request))

    # ------------------------------------------------------------ messages

    def on_request_vote(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        """Handle RequestVote (Raft thesis, section 3.4)."""
        if self._membership.standing is MemberState.VOTER:
            core.step(peer, framing.to_engine(envelope))

    def on_vote(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        """Count a vote, one per voter and term."""
        # The engine counts messages, not voters.
        if (envelope.vote.term, peer) not in self._votes:
            self._votes = {vote for vote in self._votes if vote[0] == envelope.vote.term}
            self._votes.add((envelope.vote.term, peer))
            core.step(peer, framing.to_engine(envelope))

    def on_timeout_now(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        """Start an election at once: the leader transfers its leadership (Raft thesis, section 3.10)."""
        if self._membership.standing is MemberState.VOTER:
            core.step(peer, framing.to_engine(envelope))

    def on_pre_vote_request(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        """Answer a request for a pre-vote (Raft thesis, section 9.6)."""
        request = envelope.pre_vote_request
        granted = self._membership.standing is MemberState.VOTER and would_vote(
            own_term=core.raftCurrentTerm,
            own_last=(core.last_log_term(), core.last_log_index()),
            term=request.term,
            last=(request.last_log_term, request.last_log_index),
            hears_leader=core.role() == LEADER or self.silence() < self._election_timeout,
        )
        self._send(peer, pb.Envelope(pre_vote_answer=pb.PreVoteAnswer(term=request.term, granted=granted)))

    def on_pre_vote_answer(self, core: Core, peer: str, envelope: pb.Envelope) -> None:
        """Count a pre-vote; with a majority, start the election."""
        answer = envelope.pre_vote_answer
        self._prevote.answered(peer, answer.term, granted=answer.granted)
        if core.role() != LEADER and self._prevote.won(core.raftCurrentTerm + 1):
            core.campaign_at(0)
