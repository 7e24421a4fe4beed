"""Where faults happen: the cluster and everything around it, and the chances of one fault."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.cluster import Cluster
from tests.simulation.node import SimNode
from tests.simulation.record import SimRecord
from tests.simulation.workers import Workforce


@dataclass(frozen=True, slots=True)
class FaultContext:
    """Everything that can go wrong. rng: the fault's own."""

    cluster: Cluster
    record: SimRecord
    workforce: Workforce
    rng: random.Random

    def node(self) -> SimNode:
        return self.cluster.nodes[self.rng.choice(self.cluster.names)]

    def pair(self) -> tuple[str, str]:
        one, other = self.rng.sample(self.cluster.names, 2)
        return one, other

    def downtime(self) -> float:
        """Seconds until a dead process starts again: often at once, so that it meets what it has just forgotten."""
        return self.rng.choice((0.0, 0.01, 0.1, self.rng.uniform(0.0, 2.0)))

    def later(self, low: float, high: float, action: Callable[[], None]) -> None:
        self.cluster.at(self.rng.uniform(low, high), action)
