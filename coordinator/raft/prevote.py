"""Asking before campaigning, so that a node back from a partition disturbs nobody. Pure.

Raft thesis, section 9.6: a node campaigns only after a majority has said that it would vote for it and hears from no
leader itself. The term is not raised for asking.
"""


class PreVote:
    """One node's current round of asking."""

    def __init__(self, node_id: str, voters: int) -> None:
        self._node_id = node_id
        self._majority = voters // 2 + 1
        self._term = 0
        self._granted: set[str] = set()

    def ask(self, term: int) -> None:
        """Begin a round for campaigning in `term`; this node is for itself."""
        self._term = term
        self._granted = {self._node_id}

    def forget(self) -> None:
        """The leader was heard after all: answers to the question that was asked before are out of date."""
        self._term, self._granted = 0, set()

    def answered(self, peer: str, term: int, *, granted: bool) -> None:
        """Count an answer, once a peer, and only for the current round."""
        if granted and term == self._term:
            self._granted.add(peer)

    def won(self, term: int) -> bool:
        """True when a majority would vote for this node in `term`."""
        return term == self._term and len(self._granted) >= self._majority


def would_vote(
    *, own_term: int, own_last: tuple[int, int], term: int, last: tuple[int, int], hears_leader: bool
) -> bool:
    """Whether to tell a peer that it would get this node's vote in `term`.

    own_last, last: (term, index) of the last log entry of this node and of the peer.
    """
    return not hears_leader and term > own_term and last >= own_last
