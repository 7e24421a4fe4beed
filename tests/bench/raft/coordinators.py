"""Three of our coordinators as they are installed: real certificates, keys, authorisation, metrics, state machine.

Nobody proves anything, so every accepted task stays in memory; the bounds on that are raised. Without a database the
record is away, which is part of what the product promises to go on through.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.bench.raft.clusters import eventually, free_ports, stop_all
from tests.bench.raft.identities import ADMIN, HOST, TRUST_DOMAIN, files
from tests.bench.raft.processes import NodeProcess
from zkp.localcluster.https import HttpsCaller, leader_of
from zkp.proofs.keys import KeyStore

MEMBERS = ("coordinator-1", "coordinator-2", "coordinator-3")
CIRCUIT = "range_proof"
_COMMAND = (sys.executable, "-m", "coordinator")
_PURPOSES = ("raft", "grpc", "health", "metrics")
_NO_DATABASE = {"host": "/nonexistent"}
_BOUNDS = {"max_backlog": 100_000_000, "max_unprojected": 100_000_000}

Options = Mapping[str, Mapping[str, object]]


def make_keys(directory: Path) -> None:
    """Development keys of the circuit that the load is made of."""
    store = KeyStore(directory)
    if CIRCUIT not in {record.name for record in store.list()}:
        store.build(CIRCUIT)


class CoordinatorCluster:
    """Data in directory/data. `options`: sections of the configuration with the keys to set otherwise."""

    label = "coordinators"

    def __init__(self, directory: Path, identities: Path, keys: Path, options: Options | None = None) -> None:
        self._admin = HttpsCaller(identities / ADMIN)
        ports = iter(free_ports(len(MEMBERS) * len(_PURPOSES)))
        self._at = {name: {purpose: f"{HOST}:{next(ports)}" for purpose in _PURPOSES} for name in MEMBERS}
        directory.mkdir(parents=True)
        self.members = {}
        self._data: dict[str, Path] = {}
        for name in MEMBERS:
            data = self._data[name] = directory / "data" / name
            data.mkdir(parents=True)
            config = directory / f"{name}.yaml"
            config.write_text(yaml.safe_dump(self._settings(name, data, identities, keys, options or {})))
            self.members[name] = NodeProcess(name, _COMMAND, ["--config", str(config)], directory / f"{name}.log")

    def start(self) -> None:
        for member in self.members.values():
            member.start()
        self.leader()

    def probe(self, directory: Path) -> None:
        """Have every member, once started, write the times of its work to directory/NAME when it stops."""
        for name, member in self.members.items():
            member.command = (sys.executable, "-m", "tests.bench.raft.probed", str(directory / name))

    def address(self, member: str) -> str:
        return self._at[member]["grpc"]

    def leader(self) -> str:
        return eventually("a leader of the coordinators", self._look)

    def wait_for(self, member: str) -> None:
        eventually(f"{member} back", lambda: member if self.caught_up(member) else None)

    def caught_up(self, member: str) -> bool:
        """The member has applied what the leader says is agreed on, and takes part."""
        reports = self._reports()
        leader, own = leader_of(reports), _raft(reports[member])
        return (
            leader is not None
            and own.get("leader") == leader.id
            and own.get("last_applied", -1) >= _raft(reports[leader.id])["commit_index"]
        )

    def disk_bytes(self, member: str) -> int:
        """What the member's files take up."""
        return sum(file.stat().st_blocks * 512 for file in self._data[member].iterdir())

    def stop(self) -> None:
        stop_all(self.members)

    def _look(self) -> str | None:
        reports = self._reports()
        found = leader_of(reports)
        # It takes work once the verifying keys are agreed on.
        ready = found is not None and reports[found.id].get("status") in ("ok", "degraded")
        return found.id if found is not None and ready else None

    def _reports(self) -> dict[str, Mapping[str, object]]:
        return {name: self._admin.get(at["health"], "/health").document for name, at in self._at.items()}

    def _settings(self, name: str, data: Path, identities: Path, keys: Path, options: Options) -> dict[str, object]:
        own, tls = self._at[name], files(identities, name)
        settings: dict[str, dict[str, object]] = {
            "node": {"id": name, "data_dir": str(data), "trust_domain": TRUST_DOMAIN, "log_level": "warning"},
            "raft": {
                "bind": own["raft"],
                "advertise": own["raft"],
                "bootstrap": name == MEMBERS[0],
                "peers": [{"id": id_, "raft": at["raft"], "grpc": at["grpc"]} for id_, at in self._at.items()],
            },
            "grpc": {"bind": own["grpc"], "advertise": own["grpc"]},
            "health": {"bind": own["health"]},
            "metrics": {"bind": own["metrics"]},
            "tls": {"certificate": str(tls.certificate), "key": str(tls.key), "ca": str(tls.ca)},
            "database": dict(_NO_DATABASE),
            "tasks": dict(_BOUNDS),
            "proofs": {"keys_dir": str(keys)},
        }
        for section, values in options.items():
            settings[section] = {**settings[section], **values}
        return dict(settings)


def _raft(report: Mapping[str, Any]) -> Mapping[str, Any]:
    part: Mapping[str, Any] = report.get("raft", {})
    return part
