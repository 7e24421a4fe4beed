"""Who led when, as far as this node saw: how often leadership changed hands, and a line in the log each time."""

import logging

log = logging.getLogger("zkp.raft")


class LeaderChangeCounter:
    """Told after every tick who leads; counts and logs what is new."""

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id
        self._last: tuple[str, int] | None = None
        self.changes = 0
        """How often another leader, or the same one in a later term, was seen."""

    def look(self, leader_id: str | None, term: int) -> None:
        """leader_id: who leads in `term`, or None while nobody is known to."""
        if leader_id is None or (leader_id, term) == self._last:
            return
        self._last = (leader_id, term)
        self.changes += 1
        if leader_id != self._node_id:
            log.info("entering follower state", extra={"term": term, "peer": leader_id})
