"""File systems that tests mount, where they may."""

import os
import subprocess
import time
from pathlib import Path

import pytest

_PATIENCE_S = 30.0
_POLL_S = 0.05


def require_root() -> None:
    """Skip the test, with the reason, for an ordinary user."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")


def mount(source: str | Path, place: Path, *options: str) -> None:
    """Raises subprocess.CalledProcessError, with mount's words."""
    subprocess.run(["mount", *options, str(source), str(place)], check=True, capture_output=True, text=True)


def unmount(place: Path) -> None:
    """Also when nothing is mounted there. The kernel may take a moment to see that a killed process has ended."""
    deadline = time.monotonic() + _PATIENCE_S
    while place.is_mount():
        done = subprocess.run(["umount", str(place)], capture_output=True, text=True, check=False)
        assert done.returncode == 0 or time.monotonic() < deadline, done.stderr
        time.sleep(0 if done.returncode == 0 else _POLL_S)


def skip_unmountable(error: subprocess.CalledProcessError) -> None:
    """Skip the test, with mount's reason."""
    pytest.skip(f"this machine mounts no such file system: {' '.join(error.stderr.split())}")
