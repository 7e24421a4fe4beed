"""Gateway configuration: schema, defaults and validation.

Environment variables are GATEWAY_ and the key in capitals, with `_` for `.`: GATEWAY_BIND, GATEWAY_RATE_PER_SECOND,
GATEWAY_COORDINATORS="['10.0.0.1:9090', '10.0.0.2:9090']", GATEWAY_API_KEYS_FILE.
"""

import stat
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated

from pydantic import Field

from gateway.callers import ApiKeyError, ApiKeys
from pki.x509.identity import Role
from zkp.daemon import preflight
from zkp.daemon.settings import (
    Address,
    AnchoredPath,
    Count,
    LogLevel,
    Name,
    ReachableAddress,
    Section,
    SettingFault,
    Size,
    TlsSettings,
    TrustDomain,
    clashing_binds,
    read,
    repeated,
)

PREFIX = "GATEWAY"


class RateSettings(Section):
    """Rate limit per caller. A caller is identified by certificate or API key."""

    per_second: Annotated[float, Field(gt=0, le=1_000_000)] = Field(
        default=10.0, description="sustained requests per second", examples=["10"]
    )
    burst: Annotated[Count, Field(ge=1, le=1_000_000)] = Field(
        default=20, description="burst size: requests that a caller may make at once after a pause", examples=["20"]
    )


class MetricsSettings(Section):
    """HTTPS /health and /ready for any certificate of the network, /metrics for prometheus and admin."""

    bind: Address = Field(
        default=Address.parse("0.0.0.0:9093"),
        description="listen address",
        examples=["0.0.0.0:9093"],
    )


class GatewaySettings(Section):
    """All settings of a gateway."""

    id: Name = Field(description="this gateway's id, the name in its certificate", examples=["gateway-1"])
    trust_domain: TrustDomain = Field(
        default="zkp.local", description="the network whose certificates are accepted", examples=["zkp.local"]
    )
    log_level: LogLevel = Field(default="info", description="the least severe messages to log", examples=["info"])
    bind: Address = Field(
        default=Address.parse("0.0.0.0:8443"),
        description="listen address for clients (HTTPS)",
        examples=["0.0.0.0:8443"],
    )
    coordinators: Annotated[tuple[ReachableAddress, ...], Field(min_length=1)] = Field(
        description="gRPC addresses of all coordinators; each can name the leader",
        examples=["['192.168.1.10:9090', '192.168.1.11:9090', '192.168.1.12:9090']"],
    )
    tls: TlsSettings
    rate: RateSettings = RateSettings()
    max_body: Annotated[Size, Field(le=1_000_000_000)] = Field(
        default=6_000_000,  # the longest list in the API description, as decimal strings, is a body of 5.4 MB
        description="largest accepted request body",
        examples=["6MB"],
    )
    api_keys_file: AnchoredPath | None = Field(
        default=None,
        description=(
            "file of NAME:SHA256HEX lines, mode 0600 (or 0640 with the service's group); if unset, only client "
            "certificates are accepted; reloaded on SIGHUP"
        ),
        examples=["/etc/zkp/api-keys"],
    )
    metrics: MetricsSettings = MetricsSettings()

    def rules(self) -> Iterator[SettingFault]:
        """Yield faults that concern several values."""
        yield from repeated("coordinators", [("", address) for address in self.coordinators], "address")
        yield from clashing_binds({"bind": self.bind, "metrics.bind": self.metrics.bind})


def check(path: Path, environ: Mapping[str, str]) -> GatewaySettings:
    """Return the validated settings; does not listen and changes nothing.

    Raises:
        SettingsError: The settings, or a file that they name, are invalid.
    """
    loaded = read(GatewaySettings, path, PREFIX, environ)
    settings = loaded.settings
    me = preflight.NamedMember("id", settings.trust_domain, Role.GATEWAY, settings.id)
    return loaded.require(chain(preflight.certificate(settings.tls, me, {}), _api_keys_file(settings.api_keys_file)))


def _api_keys_file(path: Path | None) -> Iterator[SettingFault]:
    if path is None:
        return
    try:
        ApiKeys.read(path)
    except ApiKeyError as error:
        yield SettingFault("api_keys_file", str(error), "")
        return
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o027:
        hint = "chmod 600 it, or 640 for the service's group"
        yield SettingFault("api_keys_file", f"{path} is accessible to other users (mode {mode:04o})", hint)
