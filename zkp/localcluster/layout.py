"""Where everything of a local cluster lies: one directory, which may be deleted once the cluster is down."""

from dataclasses import dataclass
from pathlib import Path

TRUST_DOMAIN = "zkp.local"
DEFAULT_DIRECTORY = Path(".zkp")

COORDINATORS = ("coordinator-1", "coordinator-2", "coordinator-3")
GATEWAY = "gateway"
POSTGRES = "postgres"
PROMETHEUS = "prometheus"
CLIENT, ADMIN = "client", "admin"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below `root`, which is absolute."""

    root: Path

    @property
    def profile(self) -> Path:
        """Addresses and processes, for the `zkp` command and for programs."""
        return self.root / "cluster.json"

    @property
    def lock(self) -> Path:
        return self.root / ".lock"

    @property
    def pki(self) -> Path:
        """The development authority."""
        return self.root / "pki"

    @property
    def keys(self) -> Path:
        """Proving and verifying keys of every circuit."""
        return self.root / "keys"

    @property
    def postgres(self) -> Path:
        return self.root / "postgres"

    @property
    def prometheus(self) -> Path:
        """Configuration, rules, targets and data of the Prometheus that watches the cluster."""
        return self.root / "prometheus"

    @property
    def identities(self) -> Path:
        return self.root / "identities"

    def identity(self, name: str) -> Path:
        """Certificate, key and roots of one member."""
        return self.identities / name

    def config(self, name: str) -> Path:
        return self.root / "config" / f"{name}.yaml"

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    def data(self, name: str) -> Path:
        return self.root / "data" / name


def worker_names(count: int) -> tuple[str, ...]:
    """worker-1, worker-2 …"""
    return tuple(f"worker-{number}" for number in range(1, count + 1))
