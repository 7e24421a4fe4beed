"""Processes of a local cluster: started detached, recognised by pid and start time, never by name.

A pid alone may belong to another process by now. Together with the kernel's start time and the boot
it was given in, it names one process for good; signals go through a pidfd, so that nothing can slip
in between looking and signalling.
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
"""Environment variable, set to the cluster's directory, that every started process and its children carry."""

_RESET_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
_STATE, _START_TIME = 0, 19  # fields 3 and 22 of proc_pid_stat(5), counted after the command's name


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process for good: `started_ticks` are clock ticks since the boot named by `boot_id`."""

    pid: int
    started_ticks: int
    boot_id: str

    def alive(self) -> bool:
        """True while exactly this process runs; a zombie counts as ended, and is collected if it is our child."""
        running = _start_time(self.pid) == self.started_ticks and self.boot_id == boot_id()
        if not running:
            # Only after looking: a process that ended in between would stay a zombie, and PostgreSQL takes the pid in
            # its lock file for a server that runs.
            _reap(self.pid)
        return running

    def send(self, number: signal.Signals) -> bool:
        """Send a signal; False when the process has ended."""
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
        """Wait for the end; False when it still runs after `seconds`."""
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

    def stop(self, grace_seconds: float, *, first: signal.Signals = signal.SIGTERM) -> bool:
        """Ask with `first`, insist with SIGKILL after the grace period; False when it had to be killed."""
        self.send(first)
        if self.wait(grace_seconds):
            return True
        self.send(signal.SIGKILL)
        self.wait(grace_seconds)
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
    """Start a program in a session of its own, with output appended to `log` (made 0600)."""
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
        raise LocalClusterError(f"cannot start {command[0]}: {error.strerror}") from error
    # Until we reap it the pid is ours, even if the program has ended already.
    started = _stat(pid)
    return ProcessRecord(pid, int(started[_START_TIME]) if started else 0, boot_id())


def python_module(module: str, *arguments: str) -> list[str]:
    """Command line that runs a module with this interpreter, whatever lies in the current directory."""
    return [sys.executable, "-P", "-m", module, *arguments]


def remnants(directory: Path) -> list[ProcessRecord]:
    """Processes started for the cluster in `directory`, or working in its Postgres data, that still run."""
    marker = f"{MARKER}={directory}".encode()
    found = []
    for pid in _pids():
        if pid == os.getpid():
            continue
        if marker in _environment(pid) or _works_in(pid, directory / "postgres"):
            started = _start_time(pid)
            if started is not None:
                found.append(ProcessRecord(pid, started, boot_id()))
    return found


def end_remnants(directory: Path, grace_seconds: float = 5.0) -> int:
    """Kill whatever a crash left behind; returns how many there were."""
    left = remnants(directory)
    for record in left:
        record.send(signal.SIGKILL)
    deadline = time.monotonic() + grace_seconds
    for record in left:
        record.wait(max(0.0, deadline - time.monotonic()))
    return len(left)


def working_in(directory: Path) -> list[ProcessRecord]:
    """Processes whose working directory is `directory`: all of a Postgres, as it changes into its data."""
    records = ((pid, _start_time(pid)) for pid in _pids() if _works_in(pid, directory))
    return [ProcessRecord(pid, started, boot_id()) for pid, started in records if started is not None]


def boot_id() -> str:
    """The kernel's random id of this boot."""
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
    except OSError:  # ended meanwhile, or another user's
        return []


def _works_in(pid: int, directory: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink() == directory
    except OSError:
        return False


def _reap(pid: int) -> None:
    """Collect the exit status if it is our own child and has ended: otherwise it stays a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
