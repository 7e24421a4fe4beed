"""Power loss on one machine: each node's directory is a loop-mounted ext4 image, and power is lost by copying it.

What a process has written and not synced is in the mounted file system's page cache, not in the image: a copy of the
image, mounted in its place, is the disk after the power came back. The copy is only taken for that if no block was
written while it was made, so it shows one moment.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.integration.raft_process.mounts import mount, require_root, skip_unmountable, unmount

_PROGRAMS = ("mkfs.ext4", "mount", "umount")
_WRITES, _IN_FLIGHT = 4, 8  # fields of Documentation/block/stat.rst
_PATIENCE_S = 30.0


class Disk:
    """An ext4 file system in a file, mounted at `place` while there is power."""

    def __init__(self, place: Path, images: Path, megabytes: int = 192) -> None:
        self._place = place
        self._images = images
        self._number = 0
        images.mkdir(parents=True, exist_ok=True)
        place.mkdir(parents=True, exist_ok=True)
        with self._image.open("xb") as image:
            image.truncate(megabytes << 20)
        # Nothing is left to be written later, by the kernel itself.
        lazy = "lazy_itable_init=0,lazy_journal_init=0"
        _run("mkfs.ext4", "-q", "-F", "-E", lazy, "-E", "root_owner=0:0", str(self._image))
        self.mount()

    def mount(self) -> None:
        mount(self._image, self._place, "-o", "loop,noatime")

    def unmount(self) -> None:
        """Also when it is not mounted."""
        unmount(self._place)

    def copy(self) -> Path:
        """The image as it is now, taken while nothing was written to it."""
        taken = self._image.with_name(f"{self._number + 1:03d}.img")
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            before = self._activity()
            _run("cp", "--sparse=always", str(self._image), str(taken))
            if before[1] == 0 and self._activity() == before:
                return taken
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._image} is never left alone for the time of a copy")

    def replace(self, taken: Path) -> None:
        """Mount the copy in place of the image, which is thrown away."""
        self.unmount()
        self._image.unlink()
        self._number += 1
        if taken != self._image:
            raise ValueError(f"{taken} is not the copy that was taken last")
        self.mount()

    @property
    def _image(self) -> Path:
        return self._images / f"{self._number:03d}.img"

    def _activity(self) -> tuple[int, int]:
        """(writes done, requests in flight) of the loop device."""
        device = self._place.stat().st_dev
        fields = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text("ascii").split()
        return int(fields[_WRITES]), int(fields[_IN_FLIGHT])


def copies(disks: Iterable[Disk]) -> list[tuple[Disk, Path]]:
    """What is on the platters of each of them."""
    return [(disk, disk.copy()) for disk in disks]


def require_loop_devices(directory: Path) -> None:
    """Skip the test, with the reason, where images cannot be mounted."""
    require_root()
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    try:
        disk = Disk(directory / "probe", directory / "probe-images", megabytes=8)
    except subprocess.CalledProcessError as error:
        skip_unmountable(error)
    else:
        disk.unmount()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
