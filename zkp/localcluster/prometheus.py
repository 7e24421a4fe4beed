"""Prometheus for a local cluster: shipped configuration and rules, targets from the profile, mutual TLS.

Its web interface is plain HTTP on the loopback address; it scrapes the daemons as on real hosts.
"""

import http.client
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zkp.localcluster import ports
from zkp.localcluster.configuration import port_of
from zkp.localcluster.errors import LocalClusterError
from zkp.localcluster.layout import COORDINATORS, PROMETHEUS, Layout
from zkp.localcluster.profile import ClusterProfile

SHIPPED = Path(__file__).parents[2] / "monitoring" / "prometheus"
_PROGRAM = "prometheus"
_TIMEOUT_S = 5.0
_SCRAPED = {"coordinator": "metrics", "worker": "health", "gateway": "health"}
"""Kind of daemon → purpose of the address that serves /metrics."""


@dataclass(frozen=True, slots=True)
class Target:
    """A scrape target; `health` is "up", "down" or "unknown"."""

    job: str
    node: str
    address: str
    health: str
    error: str


def address(profile: ClusterProfile) -> str:
    """Return HOST:PORT of the web interface, in the cluster's block of ports."""
    base = port_of(profile.addresses[COORDINATORS[0]]["raft"]) - ports.RAFT - 1
    return f"127.0.0.1:{base + ports.PROMETHEUS}"


def program() -> str:
    """Return the path of Prometheus; raises `LocalClusterError` if it is not installed."""
    found = shutil.which(_PROGRAM)
    if found is None:
        raise LocalClusterError("prometheus: is not installed; run: apt install --no-install-recommends prometheus")
    return found


def prepare(layout: Layout, profile: ClusterProfile) -> list[str]:
    """Write Prometheus' directory and return its command line; raises `LocalClusterError`."""
    if not (SHIPPED / "prometheus.yml").is_file():
        raise LocalClusterError(f"{SHIPPED}: prometheus.yml is missing; run this from a checkout of the project")
    root = layout.prometheus
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copy(SHIPPED / "prometheus.yml", root)
    for rules in ("recording", "alerts"):
        shutil.rmtree(root / rules, ignore_errors=True)
        shutil.copytree(SHIPPED / rules, root / rules)
    targets = root / "targets"
    targets.mkdir(exist_ok=True)
    for job, groups in target_groups(profile.addresses).items():
        (targets / f"{job}.json").write_text(json.dumps(groups, indent=2) + "\n", encoding="utf-8")
    identity = root / "tls"
    identity.unlink(missing_ok=True)
    identity.symlink_to(layout.identity(PROMETHEUS))
    return [
        program(),
        f"--config.file={root / 'prometheus.yml'}",
        f"--storage.tsdb.path={root / 'data'}",
        "--storage.tsdb.retention.time=1d",
        f"--web.listen-address={address(profile)}",
        "--log.level=warn",
    ]


def target_groups(addresses: Mapping[str, Mapping[str, str]]) -> dict[str, list[dict[str, object]]]:
    """Return each job's targets for Prometheus' file-based service discovery, labelled with the node id."""
    found: dict[str, list[dict[str, object]]] = {job: [] for job in (*_SCRAPED, "infrastructure", "alertmanager")}
    for node, own in addresses.items():
        job = node.partition("-")[0]
        found[job].append({"targets": [own[_SCRAPED[job]]], "labels": {"node": node}})
    return found


def targets(at: str) -> list[Target]:
    """Return the targets of the Prometheus at HOST:PORT; none while it does not answer."""
    host, _, port = at.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/api/v1/targets?state=active")
        active = json.loads(connection.getresponse().read())["data"]["activeTargets"]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return []
    finally:
        connection.close()
    found = [
        Target(
            target["labels"]["job"],
            target["labels"].get("node", ""),
            target["labels"]["instance"],
            target["health"],
            target["lastError"],
        )
        for target in active
    ]
    return sorted(found, key=lambda target: (target.job, target.node))
