"""Counter and log of leader changes observed by this node."""

import logging

log = logging.getLogger("zkp.raft")


class LeaderChangeCounter:
    """Counts and logs leader changes; called after every tick."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._last: tuple[str, int] | None = None
        self.changes = 0
        """How often another leader, or the same one in a later term, was seen."""

    def observe(self, leader_id: str | None, term: int) -> None:
        """Record the leader of `term`; None if it is unknown."""
        if leader_id is None or (leader_id, term) == self._last:
            return
        self._last = (leader_id, term)
        self.changes += 1
        if leader_id != self._node_id:
            log.info("entering follower state", extra={"term": term, "peer": leader_id})
