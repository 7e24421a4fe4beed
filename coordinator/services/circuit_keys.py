"""The verifying keys of this node against the ones that the cluster has agreed on.

A circuit is pinned to one key the first time that a leader offers it. From then on a node whose key differs cannot
check that circuit's proofs: as leader it assigns none of its tasks, accepts no new ones and no proof of it.
"""

import logging
from collections.abc import Mapping
from types import MappingProxyType

from coordinator.replication.replicator import Replicator
from coordinator.state.commands import RegisterCircuit

log = logging.getLogger("zkp.coordinator")


class CircuitKeys:
    """local: circuit → SHA-256 (hex) of this node's verifying key."""

    def __init__(self, local: Mapping[str, str], replicator: Replicator) -> None:
        self._local = MappingProxyType(dict(local))
        self._replicator = replicator

    @property
    def local(self) -> Mapping[str, str]:
        """Circuit → SHA-256 (hex) of this node's verifying key."""
        return self._local

    def pin(self, circuit: str) -> str | None:
        """SHA-256 (hex) of the cluster's verifying key; None while it has none."""
        known = self._replicator.state.circuits.get(circuit)
        return None if known is None else known.verifying_key_sha256

    def serves(self, circuit: str) -> bool:
        """Return whether this node can verify proofs of the circuit."""
        pin = self.pin(circuit)
        return pin is not None and self._local.get(circuit) == pin

    async def register(self) -> None:
        """Pin the circuits that have no key yet, and log the local keys that differ. Leader only."""
        missing = [RegisterCircuit(name, key) for name, key in self._local.items() if self.pin(name) is None]
        if missing:
            await self._replicator.submit_all(missing)
        for name, key in self._local.items():
            pin = self.pin(name)
            if pin is not None and pin != key:
                log.critical(
                    "circuit %s is not served: this node's verifying key is %s, the cluster's is %s; "
                    "install the cluster's keys here and restart",
                    name,
                    key,
                    pin,
                )
