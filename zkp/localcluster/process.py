"""Processes of a local cluster: started detached, identified by pid and start time.

A pid may be reused. Together with the start time and the boot id it identifies one process; signals are sent through
a pidfd, so that the process cannot be replaced between check and signal.
"""

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zkp.localcluster.errors import LocalClusterError

MARKER = "ZKP_LOCAL_CLUSTER"
"""Environment variable, set to the cluster's directory, inherited by every started process and its children."""

_RESET_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
_STATE, _START_TIME = 0, 19  # fields 3 and 22 of proc_pid_stat(5), counted after the command's name


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """Identity of one process; `started_ticks` are clock ticks since the boot `boot_id`."""

    pid: int
    started_ticks: int
    boot_id: str

    def alive(self) -> bool:
        """Return whether this process runs; a zombie does not, and is reaped if it is a child."""
        running = _start_time(self.pid) == self.started_ticks and self.boot_id == boot_id()
        if not running:
            # Reap after the check: a process that ended before it would remain a zombie, and PostgreSQL takes a
            # zombie's pid in its lock file for a running server.
            _reap(self.pid)
        return running

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False if the process has ended."""
        pidfd = self._open()
        if pidfd is None:
            return False
        try:
            signal.pidfd_send_signal(pidfd, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(pidfd)
        return True

    def wait(self, seconds: float) -> bool:
        """Wait for the process to end; False if it still runs after `seconds`."""
        pidfd = self._open()
        if pidfd is None:
            return True
        try:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            ended = bool(poller.poll(seconds * 1000))
        finally:
            os.close(pidfd)
        _reap(self.pid)
        return ended

    def stop(self, grace_s: float, *, first: signal.Signals = signal.SIGTERM) -> bool:
        """Send `first`, and SIGKILL after the grace period; False if it was killed."""
        self.send(first)
        if self.wait(grace_s):
            return True
        self.send(signal.SIGKILL)
        self.wait(grace_s)
        return False

    def _open(self) -> int | None:
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        if self.alive():
            return pidfd
        os.close(pidfd)
        return None


def spawn(command: Sequence[str], *, log: Path, environ: Mapping[str, str]) -> ProcessRecord:
    """Start a program in a new session, with its output appended to `log` (mode 0600)."""
    log.parent.mkdir(parents=True, exist_ok=True)
    appended = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), appended, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    try:
        pid = os.posix_spawnp(
            command[0],
            [*command],
            environ,
            file_actions=actions,
            setsid=True,
            setsigdef=_RESET_SIGNALS,
            setsigmask=(),
        )
    except OSError as error:
        raise LocalClusterError(f"{command[0]}: cannot be started: {error.strerror}") from error
    # The pid stays ours until it is reaped, even if the program has ended.
    started = _stat(pid)
    return ProcessRecord(pid, int(started[_START_TIME]) if started else 0, boot_id())


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the command line of a module with this interpreter; the current directory is not imported from."""
    return [sys.executable, "-P", "-m", module, *arguments]


def orphans(directory: Path) -> list[ProcessRecord]:
    """Return running processes of the cluster in `directory`, by their environment or PostgreSQL data directory."""
    marker = f"{MARKER}={directory}".encode()
    found = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        if marker in _environment(pid) or _is_in(pid, directory / "postgres"):
            started = _start_time(pid)
            if started is not None:
                found.append(ProcessRecord(pid, started, boot_id()))
    return found


def kill_orphans(directory: Path, grace_s: float = 5.0) -> int:
    """Kill the processes that a crash left behind, and return their number."""
    left = orphans(directory)
    for record in left:
        record.send(signal.SIGKILL)
    deadline = time.monotonic() + grace_s
    for record in left:
        record.wait(max(0.0, deadline - time.monotonic()))
    return len(left)


def processes_in(directory: Path) -> list[ProcessRecord]:
    """Return processes whose working directory is `directory`, which every PostgreSQL process changes to."""
    records = ((pid, _start_time(pid)) for pid in _pids() if _is_in(pid, directory))
    return [ProcessRecord(pid, started, boot_id()) for pid, started in records if started is not None]


def boot_id() -> str:
    """Return the kernel's id of this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _pids() -> Iterator[int]:
    return (int(entry) for entry in os.listdir("/proc") if entry.isdigit())  # noqa: PTH208  names suffice


def _stat(pid: int) -> list[str] | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return line.rpartition(")")[2].split()


def _start_time(pid: int) -> int | None:
    fields = _stat(pid)
    if fields is None or fields[_STATE] in {"Z", "X"}:
        return None
    return int(fields[_START_TIME])


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended, or belongs to another user
        return []


def _is_in(pid: int, directory: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == directory
    except OSError:
        return False


def _reap(pid: int) -> None:
    """Collect the exit status of a child that has ended; otherwise it remains a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
