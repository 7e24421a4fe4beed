"""The configuration of every daemon of a local cluster. Pure: a layout and a block of ports in, YAML out."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from zkp.localcluster import ports
from zkp.localcluster.layout import COORDINATORS, GATEWAY, TRUST_DOMAIN, Layout, worker_names

Addresses = dict[str, dict[str, str]]
Places = Mapping[str, Mapping[str, str]]

WORKER_DRAIN_S = 30
"""How long a worker that stops may go on with the proof in work."""

_HEADING = "# Written by `zkp local up`, anew at every start: change it there, or by environment variables.\n"


def addresses(base: int, workers: int) -> Addresses:
    """Who listens where: member → purpose → HOST:PORT, in the order of start."""
    found: Addresses = {}
    for number, name in enumerate(COORDINATORS, start=1):
        found[name] = {
            purpose: _at(base + offset + number)
            for purpose, offset in (
                ("raft", ports.RAFT),
                ("grpc", ports.GRPC),
                ("health", ports.HEALTH),
                ("metrics", ports.METRICS),
            )
        }
    for number, name in enumerate(worker_names(workers), start=1):
        found[name] = {"health": _at(base + ports.WORKER_HEALTH + number)}
    found[GATEWAY] = {"https": _at(base + ports.GATEWAY_HTTPS), "health": _at(base + ports.GATEWAY_HEALTH)}
    return found


def port_of(address: str) -> int:
    """The port of HOST:PORT."""
    return int(address.rpartition(":")[2])


def documents(layout: Layout, keys: Path, at: Places) -> dict[str, dict[str, object]]:
    """Member → its configuration."""
    return {name: _document(layout, keys, at, name) for name in at}


def text(document: Mapping[str, object]) -> str:
    """The configuration as the file holds it."""
    return _HEADING + yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True)


def _document(layout: Layout, keys: Path, at: Places, name: str) -> dict[str, object]:
    kind = name.partition("-")[0]
    return {"coordinator": _coordinator, "worker": _worker, "gateway": _gateway}[kind](layout, keys, at, name)


def _coordinator(layout: Layout, keys: Path, at: Places, name: str) -> dict[str, object]:
    own = at[name]
    peers = [{"id": peer, "raft": at[peer]["raft"], "grpc": at[peer]["grpc"]} for peer in COORDINATORS]
    return {
        "node": {"id": name, "data_dir": str(layout.data(name)), "trust_domain": TRUST_DOMAIN},
        "raft": {
            "bind": own["raft"],
            "advertise": own["raft"],
            "bootstrap": name == COORDINATORS[0],
            "peers": peers,
        },
        "grpc": {"bind": own["grpc"], "advertise": own["grpc"]},
        "health": {"bind": own["health"]},
        "metrics": {"bind": own["metrics"]},
        "tls": _tls(layout, name),
        # The server's URL may hold a password: it comes in ZKP_DATABASE_URL and is not written down.
        "database": {},
        "proofs": {"keys_dir": str(keys)},
    }


def _worker(layout: Layout, keys: Path, at: Places, name: str) -> dict[str, object]:
    return {
        "id": name,
        "trust_domain": TRUST_DOMAIN,
        "coordinators": [at[peer]["grpc"] for peer in COORDINATORS],
        "max_concurrent_tasks": 1,
        "keys_dir": str(keys),
        "data_dir": str(layout.data(name)),
        "drain_timeout": f"{WORKER_DRAIN_S}s",
        "tls": _tls(layout, name),
        "metrics": {"bind": at[name]["health"]},
    }


def _gateway(layout: Layout, _: Path, at: Places, name: str) -> dict[str, object]:
    return {
        "id": name,
        "trust_domain": TRUST_DOMAIN,
        "bind": at[name]["https"],
        "coordinators": [at[peer]["grpc"] for peer in COORDINATORS],
        "tls": _tls(layout, name),
        "metrics": {"bind": at[name]["health"]},
    }


def _tls(layout: Layout, name: str) -> dict[str, str]:
    directory = layout.identity(name)
    return {part: str(directory / f"{part}.pem") for part in ("certificate", "key", "ca")}


def _at(port: int) -> str:
    return f"127.0.0.1:{port}"
