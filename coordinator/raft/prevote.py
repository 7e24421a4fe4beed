"""Pre-vote: a node that returns from a partition does not disrupt the leader. Pure.

Raft thesis, section 9.6: a node campaigns only after a majority has granted it a pre-vote; a node that
has recent contact with a leader grants none. A pre-vote does not increment the term.
"""


class PreVote:
    """One node's current pre-vote round."""

    def __init__(self, node_id: str, voters: int) -> None:
        self._node_id = node_id
        self._majority = voters // 2 + 1
        self._term = 0
        self._granted: set[str] = set()

    def ask(self, term: int) -> None:
        """Start a round for campaigning in `term`; this node grants itself a pre-vote."""
        self._term = term
        self._granted = {self._node_id}

    def forget(self) -> None:
        """Discard the current round after contact with the leader; late answers do not count."""
        self._term, self._granted = 0, set()

    def answered(self, peer: str, term: int, *, granted: bool) -> None:
        """Count an answer, once per peer and only for the current round."""
        if granted and term == self._term:
            self._granted.add(peer)

    def won(self, term: int) -> bool:
        """Return True when a majority has granted a pre-vote for `term`."""
        return term == self._term and len(self._granted) >= self._majority


def would_vote(
    *, own_term: int, own_last: tuple[int, int], term: int, last: tuple[int, int], hears_leader: bool
) -> bool:
    """Return whether to grant a peer a pre-vote for `term`.

    own_last, last: (term, index) of the last log entry of this node and of the peer.
    """
    return not hears_leader and term > own_term and last >= own_last
