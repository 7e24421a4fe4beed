"""Programs of this machine, as calls that raise one line."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from tests.hosts.errors import HostsError

_PACKAGES = {
    "curl": "curl",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    "nft": "nftables",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "systemd-nspawn": "systemd-container",
}


def require() -> None:
    """Raises HostsError where this machine can have no hosts, with everything that it lacks in one line."""
    if os.geteuid() != 0:
        raise HostsError("test hosts need root: mounts, a bridge and systemd-nspawn; run this as root")
    missing = [program for program in _PACKAGES if shutil.which(program) is None]
    if missing:
        packages = sorted({_PACKAGES[program] for program in missing})
        raise HostsError(f"not installed: {', '.join(missing)}; apt-get install {' '.join(packages)}")


def run(*command: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> str:
    """What it printed; raises HostsError with its last words when it fails."""
    done = attempt(*command, stdin=stdin, env=env)
    if done.returncode != 0:
        raise HostsError(f"`{' '.join(command)}` failed: {last_words(done)}")
    return done.stdout


def attempt(
    *command: str, stdin: str | None = None, env: Mapping[str, str] | None = None, timeout_s: float | None = None
) -> subprocess.CompletedProcess[str]:
    """The same, for those to whom a failure is an answer. `env` adds to the environment of this process."""
    environment = None if env is None else {**os.environ, **env}
    keyboard = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, timeout=timeout_s, **keyboard
    )


def last_words(done: subprocess.CompletedProcess[str], lines: int = 3) -> str:
    """The end of what a program said, in one line."""
    return " / ".join(said(done.stderr)[-lines:] or said(done.stdout)[-lines:]) or f"exit status {done.returncode}"


def said(text: str) -> Sequence[str]:
    """Its lines, without the empty ones."""
    return [line.strip() for line in text.splitlines() if line.strip()]
