"""A coordinator's configuration: its schema, defaults and validation.

Variables: COORDINATOR_ and the key in capitals, `_` for `.`: COORDINATOR_NODE_ID,
COORDINATOR_RAFT_BOOTSTRAP, COORDINATOR_DATABASE_HOST. ZKP_DATABASE_URL sets `database.url` too; where both
are set, COORDINATOR_DATABASE_URL wins.
"""

from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated

from pydantic import Field

from coordinator.config.database import DatabaseSettings
from pki.x509.identity import Role
from zkp.daemon import preflight
from zkp.daemon.settings import (
    Address,
    AnchoredPath,
    Count,
    Duration,
    LogLevel,
    Name,
    ReachableAddress,
    Section,
    SettingFault,
    TlsSettings,
    TrustDomain,
    clashing_binds,
    read,
    repeated,
)
from zkp.protocol.limits import MAX_RETRIES

PREFIX = "COORDINATOR"
ALIASES = {"ZKP_DATABASE_URL": "database.url"}


class NodeSettings(Section):
    """This machine's place in the network."""

    id: Name = Field(description="this node's id, the name in its certificate", examples=["coordinator-1"])
    data_dir: AnchoredPath = Field(
        description="directory of the Raft log and snapshots; must exist, on a disk that honours fsync",
        examples=["/var/lib/zkp"],
    )
    trust_domain: TrustDomain = Field(
        default="zkp.local", description="the network whose certificates are accepted", examples=["zkp.local"]
    )
    log_level: LogLevel = Field(default="info", description="the least severe messages to log", examples=["info"])


class Peer(Section):
    """One member of the cluster, as every member knows it."""

    id: Name = Field(description="the member's node.id", examples=["coordinator-2"])
    raft: ReachableAddress = Field(description="its raft.advertise", examples=["192.168.1.11:7000"])
    grpc: ReachableAddress = Field(description="its grpc.advertise", examples=["192.168.1.11:9090"])


class RaftSettings(Section):
    """How this node agrees with its peers. On a LAN the defaults are good."""

    bind: Address = Field(
        default=Address.parse("0.0.0.0:7000"),
        description="where to listen for peers",
        examples=["0.0.0.0:7000"],
    )
    advertise: ReachableAddress = Field(description="where peers reach this node", examples=["192.168.1.10:7000"])
    peers: Annotated[tuple[Peer, ...], Field(min_length=1)] = Field(
        description="every member of the cluster, this node included; the same list on each",
        examples=["[{id: coordinator-1, raft: 192.168.1.10:7000, grpc: 192.168.1.10:9090}]"],
    )
    bootstrap: bool = Field(
        default=False,
        description="bootstrap a new cluster once every peer confirms that it has none; set on at most one node",
        examples=["false"],
    )
    heartbeat: Annotated[Duration, Field(ge=0.01, le=10)] = Field(
        default=0.05, description="interval of the leader's heartbeats", examples=["50ms"]
    )
    election_timeout: Annotated[Duration, Field(ge=0.04, le=60)] = Field(
        default=0.25,
        description=(
            "time without a heartbeat after which a follower starts an election, between this and twice this; "
            "at least 4 heartbeats, and well above the longest pause of network and disk"
        ),
        examples=["250ms"],
    )

    def rules(self) -> Iterator[SettingFault]:
        """Yield the settings that do not fit together."""
        if self.election_timeout < 4 * self.heartbeat * (1 - 1e-9):  # 4 x 37.5ms is 150ms, in floats too
            beat, timeout = f"{self.heartbeat * 1000:g}ms", f"{self.election_timeout * 1000:g}ms"
            yield SettingFault(
                "heartbeat",
                f"{beat} is not well below raft.election_timeout ({timeout})",
                f"lower it to {self.election_timeout * 250:g}ms or less, or raise raft.election_timeout",
            )
        yield from repeated("peers", [("id", peer.id) for peer in self.peers], "id")
        yield from repeated("peers", [("raft", peer.raft) for peer in self.peers], "Raft address")
        yield from repeated("peers", [("grpc", peer.grpc) for peer in self.peers], "gRPC address")


class GrpcSettings(Section):
    """The API for workers, gateways, clients and admins."""

    bind: Address = Field(
        default=Address.parse("0.0.0.0:9090"),
        description="where to listen",
        examples=["0.0.0.0:9090"],
    )
    advertise: ReachableAddress = Field(
        description="where workers and gateways reach this node", examples=["192.168.1.10:9090"]
    )


class HealthSettings(Section):
    """HTTPS /health and /ready, for any certificate of the network."""

    bind: Address = Field(
        default=Address.parse("0.0.0.0:8090"),
        description="where to listen",
        examples=["0.0.0.0:8090"],
    )


class MetricsSettings(Section):
    """HTTPS /metrics, for the roles prometheus and admin."""

    bind: Address = Field(
        default=Address.parse("0.0.0.0:9091"),
        description="where to listen",
        examples=["0.0.0.0:9091"],
    )


class TaskSettings(Section):
    """Assignment, retries, limits and retention of tasks."""

    max_retries: Annotated[Count, Field(le=MAX_RETRIES)] = Field(
        default=3, description="how often a lost or failed attempt is tried again", examples=["3"]
    )
    time_limit: Annotated[Duration, Field(le=86400)] = Field(
        default=600.0, description="how long one attempt may prove", examples=["10min"]
    )
    lease: Annotated[Duration, Field(ge=0.3, le=3600)] = Field(
        default=10.0,
        description="lease: how long a worker keeps its tasks without a heartbeat; workers send three "
        "heartbeats per lease",
        examples=["10s"],
    )
    start_timeout: Annotated[Duration, Field(le=3600)] = Field(
        default=30.0,
        description="how long an assigned task may wait for its worker to start it",
        examples=["30s"],
    )
    max_backlog: Annotated[Count, Field(ge=1)] = Field(
        default=100_000,
        description="pending tasks to hold; then submissions are refused until some are done",
        examples=["100000"],
    )
    max_unprojected: Annotated[Count, Field(ge=1)] = Field(
        default=500_000,
        description="events to hold that are not in PostgreSQL yet; then submissions are refused",
        examples=["500000"],
    )
    retention: Duration = Field(
        default=3600.0,
        description="how long a finished task stays in memory after it is in PostgreSQL",
        examples=["1h"],
    )

    @property
    def heartbeat_interval(self) -> float:
        """Seconds between two heartbeats of a worker: two may be lost before the lease ends."""
        return self.lease / 3

    def rules(self) -> Iterator[SettingFault]:
        """Yield the settings that do not fit together."""
        if self.time_limit < self.lease:
            cure = "raise it, or lower tasks.lease"
            yield SettingFault("time_limit", f"is shorter than tasks.lease ({self.lease:g}s)", cure)


class ProofSettings(Section):
    """Keys for the verification of proofs."""

    keys_dir: AnchoredPath = Field(
        description="directory of the circuits' verifying keys", examples=["/var/lib/zkp/keys"]
    )


class CoordinatorSettings(Section):
    """All settings of a coordinator."""

    node: NodeSettings
    raft: RaftSettings
    grpc: GrpcSettings
    health: HealthSettings = HealthSettings()
    metrics: MetricsSettings = MetricsSettings()
    tls: TlsSettings
    database: DatabaseSettings
    tasks: TaskSettings = TaskSettings()
    proofs: ProofSettings

    def rules(self) -> Iterator[SettingFault]:
        """Yield the settings that do not fit together."""
        yield from self._membership()
        binds = {
            "raft.bind": self.raft.bind,
            "grpc.bind": self.grpc.bind,
            "health.bind": self.health.bind,
            "metrics.bind": self.metrics.bind,
        }
        yield from clashing_binds(binds)

    @property
    def own_peer(self) -> Peer:
        """This node's entry in raft.peers."""
        return next(peer for peer in self.raft.peers if peer.id == self.node.id)

    def _membership(self) -> Iterator[SettingFault]:
        entries = {peer.id: index for index, peer in enumerate(self.raft.peers)}
        if self.node.id not in entries:
            known = ", ".join(peer.id for peer in self.raft.peers)
            cure = f"use one of {known}, or add this node to raft.peers"
            yield SettingFault("node.id", f"{self.node.id} is not among raft.peers", cure)
            return
        index = entries[self.node.id]
        for section, advertised in (("raft", self.raft.advertise), ("grpc", self.grpc.advertise)):
            listed = getattr(self.raft.peers[index], section)
            if advertised != listed:
                what = f"{advertised} is not what raft.peers[{index}].{section} says ({listed})"
                yield SettingFault(f"{section}.advertise", what, "give both the same address")


def check(path: Path, environ: Mapping[str, str]) -> CoordinatorSettings:
    """Return the settings after checking them and the files they name. Raises SettingsError.

    Listens nowhere and changes nothing: `coordinator check` and the start of the daemon both call it.
    """
    loaded = read(CoordinatorSettings, path, PREFIX, environ, ALIASES)
    return loaded.require(_preflight(loaded.settings))


def _preflight(settings: CoordinatorSettings) -> Iterator[SettingFault]:
    hosts = {
        "raft.advertise": settings.raft.advertise.host,
        "grpc.advertise": settings.grpc.advertise.host,
    }
    me = preflight.NamedMember("node.id", settings.node.trust_domain, Role.COORDINATOR, settings.node.id)
    database = settings.database
    return chain(
        preflight.certificate(settings.tls, me, hosts),
        preflight.writable_directory("node.data_dir", settings.node.data_dir),
        preflight.readable_directory("proofs.keys_dir", settings.proofs.keys_dir),
        preflight.readable_file("database.ssl_root_cert", database.ssl_root_cert),
        preflight.readable_file("database.ssl_cert", database.ssl_cert),
        preflight.private_file("database.ssl_key", database.ssl_key),
    )
