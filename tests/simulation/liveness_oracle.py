"""What one simulated process has heard lately, and what it must not say or believe then. Pure.

Held against it: a leader that hears no majority believes in itself for a while only; nobody begins a term who heard
nobody; nobody is encouraged against a leader that is heard; whoever leads no more has told everybody who waits.
"""

from collections.abc import Callable

from zkp.protocol.v1 import raft_pb2 as pb

_PATIENCE = 4
"""Election timeouts within which a majority was heard by whoever leads or campaigns; the shell is stricter."""
_LEADERS_OWN = ("append_entries", "install_snapshot")


class LivenessOracle:
    """size: nodes of the cluster; election_timeout: seconds; broken: called with what must not have happened."""

    def __init__(
        self,
        name: str,
        size: int,
        election_timeout: float,
        clock: Callable[[], float],
        broken: Callable[[str], None],
    ) -> None:
        self._name = name
        self._majority = size // 2 + 1
        self._election_timeout = election_timeout
        self._clock = clock
        self._broken = broken
        self.asked = 0
        """Callers that wait for an answer of this life of the process."""
        self.begin()

    def begin(self) -> None:
        """The process starts."""
        self.asked = 0
        self._met: set[str] = set()
        """Peers that have introduced themselves on their connection; the others are not listened to."""
        self._heard: dict[str, float] = {}
        self._leader: tuple[str, float] | None = None
        self._told_to_lead = float("-inf")
        self.wake()

    def wake(self) -> None:
        """It was not running before this moment, and cannot know how late it is."""
        self._awake = self._clock()

    def heard(self, peer: str, envelope: pb.Envelope, term: int) -> None:
        """It takes a frame in. term: its own, before that."""
        now = self._clock()
        kind = envelope.WhichOneof("message")
        if kind == "hello":
            self._met.add(peer)
        if peer not in self._met:
            return
        self._heard[peer] = now
        if kind in _LEADERS_OWN and envelope.term >= term:
            self._leader = peer, now
        elif kind == "timeout_now":
            self._told_to_lead = now

    def missed(self, peer: str) -> None:
        """A connection has closed."""
        self._met.discard(peer)
        if self._leader is not None and self._leader[0] == peer:
            self._leader = None

    def says(self, envelope: pb.Envelope) -> None:
        """It sends a frame."""
        kind = envelope.WhichOneof("message")
        if kind == "request_vote" and not self._in_touch() and not self._within(self._told_to_lead):
            self._broken(f"{self._name} begins term {envelope.term} though it heard no majority")
        if kind == "pre_vote_answer" and envelope.pre_vote_answer.granted and self._leader is not None:
            leader, when = self._leader
            if self._clock() - when < self._election_timeout:
                self._broken(f"{self._name} encourages a campaign though it hears {leader} lead")

    def leads(self) -> None:
        """It is awake and believes that it leads."""
        if self._clock() - self._awake > self._election_timeout and not self._in_touch():
            self._broken(f"{self._name} still leads though it has heard no majority for long")

    def follows(self) -> None:
        """It has just said that it leads no more."""
        if self.asked:
            self._broken(f"{self._name} leads no more and leaves {self.asked} callers without a word")

    def _within(self, moment: float) -> bool:
        return self._clock() - moment <= _PATIENCE * self._election_timeout

    def _in_touch(self) -> bool:
        return 1 + sum(self._within(moment) for moment in self._heard.values()) >= self._majority
