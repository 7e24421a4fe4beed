"""Paths of a local cluster. Its directory may be deleted once the cluster is down."""

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
    """Paths below `root`, an absolute path."""

    root: Path

    @property
    def profile(self) -> Path:
        """File with addresses and processes."""
        return self.root / "cluster.json"

    @property
    def lock(self) -> Path:
        """Lock file of the cluster."""
        return self.root / ".lock"

    @property
    def pki(self) -> Path:
        """Directory of the development certificate authority."""
        return self.root / "pki"

    @property
    def keys(self) -> Path:
        """Directory of proving and verifying keys."""
        return self.root / "keys"

    @property
    def postgres(self) -> Path:
        """Data directory of the embedded PostgreSQL."""
        return self.root / "postgres"

    @property
    def prometheus(self) -> Path:
        """Directory of Prometheus' configuration, rules, targets and data."""
        return self.root / "prometheus"

    @property
    def identities(self) -> Path:
        """Directory of all identities."""
        return self.root / "identities"

    def identity(self, name: str) -> Path:
        """Return the directory of a member's certificate, key and roots."""
        return self.identities / name

    def config(self, name: str) -> Path:
        """Return the configuration file of a daemon."""
        return self.root / "config" / f"{name}.yaml"

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self.root / "logs" / f"{name}.log"

    def data(self, name: str) -> Path:
        """Return the data directory of a daemon."""
        return self.root / "data" / name


def worker_names(count: int) -> tuple[str, ...]:
    """Return worker-1, worker-2 and so on."""
    return tuple(f"worker-{number}" for number in range(1, count + 1))
