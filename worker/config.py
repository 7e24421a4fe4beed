"""Worker configuration: schema, defaults and validation.

Environment variables are WORKER_ and the key in capitals, with `_` for `.`: WORKER_ID, WORKER_MAX_CONCURRENT_TASKS,
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


def default_concurrency() -> int:
    """Return the number of usable CPU cores minus one, which is left for everything except proving; at least 1."""
    return max(1, len(os.sched_getaffinity(0)) - 1)


class MetricsSettings(Section):
    """HTTPS /health and /ready for any certificate of the network, /metrics for prometheus and admin."""

    bind: Address = Field(
        default=Address.parse("0.0.0.0:9092"),
        description="listen address",
        examples=["0.0.0.0:9092"],
    )


class WorkerSettings(Section):
    """All settings of a worker."""

    id: Name = Field(description="this worker's id, the name in its certificate", examples=["worker-1"])
    trust_domain: TrustDomain = Field(
        default="zkp.local", description="the network whose certificates are accepted", examples=["zkp.local"]
    )
    log_level: LogLevel = Field(default="info", description="the least severe messages to log", examples=["info"])
    coordinators: Annotated[tuple[ReachableAddress, ...], Field(min_length=1)] = Field(
        description="gRPC addresses of all coordinators; each can name the leader",
        examples=["['192.168.1.10:9090', '192.168.1.11:9090', '192.168.1.12:9090']"],
    )
    max_concurrent_tasks: Annotated[Count, Field(ge=1, le=MAX_CAPACITY)] = Field(
        default_factory=default_concurrency,
        description="concurrent proofs; default: the number of CPU cores minus one",
        examples=["3"],
    )
    keys_dir: AnchoredPath = Field(
        description="directory of the circuits' proving keys", examples=["/var/lib/zkp/keys"]
    )
    data_dir: AnchoredPath = Field(
        description="directory for finished proofs not yet acknowledged by a leader; must exist",
        examples=["/var/lib/zkp"],
    )
    memory_limit: Annotated[Size, Field(ge=128 * 10**6)] = Field(
        default=2 * 10**9,
        description="memory limit of one proof; a proof that exceeds it fails",
        examples=["2GB"],
    )
    drain_timeout: Annotated[Duration, Field(le=3600)] = Field(
        default=30.0,
        description="time that running proofs may take during a shutdown; unfinished tasks are released",
        examples=["30s"],
    )
    tls: TlsSettings
    metrics: MetricsSettings = MetricsSettings()

    def rules(self) -> Iterator[SettingFault]:
        """Yield faults that concern several values."""
        yield from repeated("coordinators", [("", address) for address in self.coordinators], "address")


def check(path: Path, environ: Mapping[str, str]) -> WorkerSettings:
    """Return the validated settings; does not listen and changes nothing.

    Raises:
        SettingsError: The settings, or a file that they name, are invalid.
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
