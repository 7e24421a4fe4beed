"""The one shape of /health and /ready of every daemon: the same members first, then what is the daemon's own.

docs/json.md describes both for readers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

Answer = tuple[bool, Mapping[str, object]]
"""Whether the page answers 200 rather than 503, and its body."""


class Status(StrEnum):
    """How a daemon is. Only "unavailable" is a 503 of /health."""

    OK = "ok"
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """Who answers. daemon: "coordinator", "worker" or "gateway"; id: the name in its certificate."""

    daemon: str
    id: str
    version: str

    def health(self, status: Status, **own: object) -> Answer:
        """The answer of /health."""
        return status is not Status.UNAVAILABLE, {"status": status, **self._members(), **own}

    def ready(self, ready: bool, **own: object) -> Answer:
        """The answer of /ready."""
        status = Status.OK if ready else Status.UNAVAILABLE
        return ready, {"status": status, "ready": ready, **self._members(), **own}

    def _members(self) -> dict[str, object]:
        return {"daemon": self.daemon, "id": self.id, "version": self.version}
