"""A coordinator process that is a whole cluster by itself: real Raft log, real keys, real ports."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from pki.x509.identity import Role
from tests.integration.coordinator.front import Identities

HOST = "127.0.0.1"


class OneNode:
    """Directories, certificates and a configuration in `directory`; `start` runs `python -m coordinator` on it."""

    def __init__(self, directory: Path, keys: Path, database: Mapping[str, object]) -> None:
        self.directory = directory
        self.identities = Identities(directory / "tls")
        self.raft, self.grpc, self.health, self.metrics = _free_ports(4)
        data = directory / "data"
        data.mkdir(parents=True)
        files = self.identities.material("coordinator-1", Role.COORDINATOR).files
        self.settings = {
            "node": {"id": "coordinator-1", "data_dir": str(data)},
            "raft": {
                "bind": f"{HOST}:{self.raft}",
                "advertise": f"{HOST}:{self.raft}",
                "peers": [{"id": "coordinator-1", "raft": f"{HOST}:{self.raft}", "grpc": f"{HOST}:{self.grpc}"}],
                "bootstrap": True,
            },
            "grpc": {"bind": f"{HOST}:{self.grpc}", "advertise": f"{HOST}:{self.grpc}"},
            "health": {"bind": f"{HOST}:{self.health}"},
            "metrics": {"bind": f"{HOST}:{self.metrics}"},
            "tls": {"certificate": str(files.certificate), "key": str(files.key), "ca": str(files.ca)},
            "database": dict(database),
            "proofs": {"keys_dir": str(keys)},
        }
        self.config = directory / "coordinator.yaml"
        self.config.write_text(yaml.safe_dump(self.settings))
        self.log = directory / "log"

    @contextlib.contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The process; killed at the end if it still runs."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "coordinator", "--config", str(self.config)],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONWARNINGS": "error"},
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def with_one_port_taken(self) -> Iterator[Path]:
        """Configurations of a second process, each with one port that the first one has."""
        for name in ("raft", "grpc", "health", "metrics"):
            settings = yaml.safe_load(self.config.read_text())
            ports = dict(zip(("raft", "grpc", "health", "metrics"), _free_ports(4), strict=True))
            ports[name] = getattr(self, name)
            for section, port in ports.items():
                settings[section]["bind"] = f"{HOST}:{port}"
            data = self.directory / f"data-{name}"
            data.mkdir()
            settings["node"]["data_dir"] = str(data)
            changed = self.directory / f"{name}-taken.yaml"
            changed.write_text(yaml.safe_dump(settings))
            yield changed

    def lines(self) -> str:
        return self.log.read_text()


def stop(process: subprocess.Popen[bytes], seconds: float = 20) -> int:
    """SIGTERM; its exit code."""
    process.send_signal(signal.SIGTERM)
    return process.wait(seconds)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]
