"""A worker's configuration: what it is, what good values are, and every mistake that can be found early.

Variables: WORKER_ and the key in capitals, `_` for `.`: WORKER_ID, WORKER_MAX_CONCURRENT_TASKS,
WORKER_COORDINATORS="['10.0.0.1:9090', '10.0.0.2:9090']", WORKER_METRICS_BIND.
"""

import os
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated

from pydantic import Field

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
    Size,
    TlsSettings,
    TrustDomain,
    read,
    repeated,
)
from zkp.protocol.limits import MAX_CAPACITY

PREFIX = "WORKER"


def spare_cores() -> int:
    """The cores that this process may use, less one for everything but proving; at least 1."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


class MetricsSettings(Section):
    """HTTPS /health and /ready for any certificate of the network, /metrics for prometheus and admin."""

    bind: Address = Field(
        default=Address.parse("0.0.0.0:9092"),
        description="where to listen",
        examples=["0.0.0.0:9092"],
    )


class WorkerSettings(Section):
    """Everything that a worker is told."""

    id: Name = Field(description="this worker's id, the name in its certificate", examples=["worker-1"])
    trust_domain: TrustDomain = Field(
        default="zkp.local", description="the network whose certificates are accepted", examples=["zkp.local"]
    )
    log_level: LogLevel = Field(default="info", description="the least severe messages to log", examples=["info"])
    coordinators: Annotated[tuple[ReachableAddress, ...], Field(min_length=1)] = Field(
        description="gRPC addresses of the coordinators; name all, since any of them can name the leader",
        examples=["['192.168.1.10:9090', '192.168.1.11:9090', '192.168.1.12:9090']"],
    )
    max_concurrent_tasks: Annotated[Count, Field(ge=1, le=MAX_CAPACITY)] = Field(
        default_factory=spare_cores,
        description="number of concurrent proofs; default: the number of cores minus one",
        examples=["3"],
    )
    keys_dir: AnchoredPath = Field(
        description="directory of the circuits' proving keys", examples=["/var/lib/zkp/keys"]
    )
    data_dir: AnchoredPath = Field(
        description="directory for finished proofs that no leader has taken yet; must exist",
        examples=["/var/lib/zkp"],
    )
    memory_limit: Annotated[Size, Field(ge=128 * 10**6)] = Field(
        default=2 * 10**9,
        description="memory that one proof may take before it is given up",
        examples=["2GB"],
    )
    drain_timeout: Annotated[Duration, Field(le=3600)] = Field(
        default=30.0,
        description="how long running proofs may continue when the worker stops; the others are returned",
        examples=["30s"],
    )
    tls: TlsSettings
    metrics: MetricsSettings = MetricsSettings()

    def rules(self) -> Iterator[SettingFault]:
        yield from repeated("coordinators", [("", address) for address in self.coordinators], "address")


def check(path: Path, environ: Mapping[str, str]) -> WorkerSettings:
    """The settings, once nothing is found wrong with them or the files they name. Raises SettingsError.

    Listens nowhere and changes nothing.
    """
    loaded = read(WorkerSettings, path, PREFIX, environ)
    settings = loaded.settings
    me = preflight.NamedMember("id", settings.trust_domain, Role.WORKER, settings.id)
    return loaded.require(
        chain(
            preflight.certificate(settings.tls, me, {}),
            preflight.readable_directory("keys_dir", settings.keys_dir),
            preflight.writable_directory("data_dir", settings.data_dir),
        )
    )
