"""The processes of a cluster under measurement: started, looked at, killed, and never left behind."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

PATIENCE_S = 30.0
"""How long a start or an election may take before the benchmark gives up."""


class BenchError(Exception):
    """The measurement could not be made; one line that says why."""


class NodeProcess:
    """One member's process: it can be started again after a kill."""

    def __init__(self, name: str, command: Sequence[str], arguments: Sequence[str], log: Path) -> None:
        self.name = name
        self.command = tuple(command)
        self._arguments = tuple(arguments)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Of the running process; raises BenchError when there is none."""
        if self._process is None or self._process.poll() is not None:
            raise BenchError(f"{self.name} is not running: its log is {self._log}")
        return self._process.pid

    def start(self) -> None:
        """Start it; whether it serves is for the cluster to find out."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.command, *self._arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def kill(self) -> None:
        """SIGKILL, and wait for the end."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if that is not enough."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._end(signal.SIGTERM)
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """SIGSTOP: alive, connected, and silent."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def resident_bytes(self) -> int:
        """Memory in use."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE_S)
