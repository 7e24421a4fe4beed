"""Programs that see a read-only /dev/shm, as in containers whose root file system is read-only."""

import os
import subprocess

import pytest

_COMMAND = [
    *("unshare", "--mount", "sh", "-c"),
    'mount -t tmpfs -o ro none /dev/shm && exec "$@"',
    "sh",
]


def with_read_only_shm() -> list[str]:
    """What to put before a command; skips the test, with the reason, where it cannot be done."""
    if os.geteuid() != 0:
        pytest.skip("mounting a read-only /dev/shm needs root")
    tried = subprocess.run([*_COMMAND, "true"], capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"a read-only /dev/shm cannot be mounted here: {' '.join(tried.stderr.split())}")
    return list(_COMMAND)
