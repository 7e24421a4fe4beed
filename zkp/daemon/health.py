"""Format of /health and /ready of every daemon: common members first, then the daemon's own.

docs/json.md describes both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

Answer = tuple[bool, Mapping[str, object]]
"""Whether the status is 200 rather than 503, and the body."""


class Status(StrEnum):
    """State of a daemon. Only "unavailable" makes /health return 503."""

    OK = "ok"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """Identity of the daemon. daemon: "coordinator", "worker" or "gateway"; id: the name in its certificate."""

    daemon: str
    id: str
    version: str

    def health(self, status: Status, **own: object) -> Answer:
        """Return the response of /health."""
        return status is not Status.UNAVAILABLE, {"status": status, **self._members(), **own}

    def ready(self, ready: bool, **own: object) -> Answer:
        """Return the response of /ready."""
        status = Status.OK if ready else Status.UNAVAILABLE
        return ready, {"status": status, "ready": ready, **self._members(), **own}

    def _members(self) -> dict[str, object]:
        return {"daemon": self.daemon, "id": self.id, "version": self.version}
