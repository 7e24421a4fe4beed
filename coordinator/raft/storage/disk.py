"""The few file operations that durability rests on, behind one interface.

The journal, the vote and the snapshots reach the disk through this alone, so that the simulation can put a disk in
its place which forgets what was not synced. Every error is an OSError and is fatal to the node: after a failed
fdatasync the content of the disk is unknown, and a retry would acknowledge data that may be lost.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol


class File(Protocol):
    """An open file that is written at offsets and made durable by `datasync`."""

    def write_at(self, data: bytes, offset: int) -> None:
        """Write all of `data` at this offset."""
        ...

    def truncate(self, size: int) -> None:
        """Set the size of the file."""
        ...

    def datasync(self) -> None:
        """Return when the content is on the disk (fdatasync)."""
        ...

    def close(self) -> None:
        """Close the file."""
        ...


class Disk(Protocol):
    """One directory of one node. Names are plain file names."""

    def names(self) -> list[str]:
        """Return the names in the directory."""
        ...

    def read(self, name: str) -> bytes | None:
        """The whole file, or None when there is none."""

    def read_part(self, name: str, offset: int, size: int) -> bytes | None:
        """Up to `size` bytes of the file, fewer at its end; None when there is no such file."""

    def create(self, name: str, size: int) -> File:
        """A new file of `size` zero bytes whose name is durable when this returns."""

    def open(self, name: str) -> File:
        """Open an existing file for writing."""
        ...

    def replace(self, name: str, data: bytes | bytearray) -> None:
        """Put `data` under `name`, durable and all or nothing when this returns."""

    def remove(self, name: str) -> None:
        """Remove the file; the removal itself need not be durable."""


def _unwatched(_: float) -> None:
    """No-op observer of sync durations."""


class OsFile:
    """A file of the operating system. on_sync: called with the duration of each `datasync` in seconds."""

    def __init__(self, descriptor: int, on_sync: Callable[[float], None] = _unwatched) -> None:
        self._descriptor = descriptor
        self._on_sync = on_sync

    def write_at(self, data: bytes | bytearray, offset: int) -> None:
        """Write all of `data` at this offset."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, offset)
            view, offset = view[written:], offset + written

    def truncate(self, size: int) -> None:
        """Set the size of the file."""
        os.ftruncate(self._descriptor, size)

    def datasync(self) -> None:
        """Return when the content is on the disk (fdatasync)."""
        began = time.perf_counter()
        os.fdatasync(self._descriptor)
        self._on_sync(time.perf_counter() - began)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class OsDisk:
    """A directory of the operating system; made with mode 0700, files with 0600. on_sync: as of `OsFile`."""

    def __init__(self, directory: Path, on_sync: Callable[[float], None] = _unwatched) -> None:
        self._on_sync = on_sync
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        # A process killed between renaming a file and syncing the directory left a name that could still vanish.
        self._sync_directory()

    def names(self) -> list[str]:
        """Return the names in the directory."""
        return sorted(entry.name for entry in self._directory.iterdir())

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if it does not exist."""
        try:
            return (self._directory / name).read_bytes()
        except FileNotFoundError:
            return None

    def read_part(self, name: str, offset: int, size: int) -> bytes | None:
        """Return a part of a file; None if it does not exist."""
        try:
            with (self._directory / name).open("rb", buffering=0) as file:
                return os.pread(file.fileno(), size, offset)
        except FileNotFoundError:
            return None

    def create(self, name: str, size: int) -> OsFile:
        """Create a file of this size, filled with zeros, durably."""
        descriptor = os.open(self._directory / name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        if size:
            # Reserve the space now: a full disk is met here, not in the middle of a record.
            os.posix_fallocate(descriptor, 0, size)
        os.fsync(descriptor)
        self._sync_directory()
        return OsFile(descriptor, self._on_sync)

    def open(self, name: str) -> OsFile:
        """Open an existing file for writing."""
        return OsFile(os.open(self._directory / name, os.O_RDWR), self._on_sync)

    def replace(self, name: str, data: bytes | bytearray) -> None:
        """Replace a file atomically and durably."""
        temporary = self._directory / f"{name}.tmp"
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        file = OsFile(descriptor)
        try:
            file.write_at(data, 0)
            os.fsync(descriptor)
        finally:
            file.close()
        temporary.rename(self._directory / name)
        self._sync_directory()

    def remove(self, name: str) -> None:
        """Remove a file durably."""
        (self._directory / name).unlink(missing_ok=True)

    def _sync_directory(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
