"""How this room touches a disk: whole files and whole directories appear at once, and survive a crash.

Everything is written beside its place, synced, then renamed into it, and the directory is synced after. An
`OSError` leaves as one line with the path.
"""

import contextlib
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pki.errors import StoreError

_LOCK_PATIENCE = 10.0  # seconds; issuing takes milliseconds, so whoever holds it longer is stuck
_LOCK_INTERVAL = 0.02


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where an identity's parts lie: leaf and issuing CA, private key, trusted roots, revocations; all PEM.

    `crl` names revocation lists that may not be there yet; None takes no notice of any.
    """

    certificate: Path
    key: Path
    ca: Path
    crl: Path | None = None

    @classmethod
    def in_directory(cls, directory: Path) -> Self:
        """The layout that `pki issue` writes."""
        return cls(directory / "certificate.pem", directory / "key.pem", directory / "ca.pem", directory / "crl.pem")


def create_directory(target: Path, contents: Mapping[str, tuple[bytes, int]], *, mode: int) -> None:
    """Make `target` with these files (name → bytes and mode), or nothing at all; never touch an old one."""
    with _explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise StoreError(f"{target} is there already: choose another place, or remove it first")
        draft = _beside(target)
        draft.mkdir(mode=0o700)
        try:
            for name, (data, file_mode) in contents.items():
                _write_new(draft / name, data, file_mode)
            draft.chmod(mode)
            _sync_directory(draft)
            draft.rename(target)  # takes the place of an empty directory, fails on any other
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        _sync_directory(target.parent)


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Put `data` in the place of `path`: readers see the old bytes or the new ones, nothing between."""
    draft = _beside(path)
    with _explained(path):
        try:
            _write_new(draft, data, mode)
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
        _sync_directory(path.parent)


def append_durably(path: Path, data: bytes, *, at: int) -> None:
    """Write `data` at offset `at`, cut off whatever lies behind it, and return when it is on the disk."""
    with _explained(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, at)
            os.lseek(descriptor, at, os.SEEK_SET)
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_file(path: Path) -> bytes:
    """The bytes of a file; raises `StoreError`."""
    with _explained(path):
        return path.read_bytes()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path` against every other writer; raises `StoreError` when one does not let go."""
    with _explained(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        give_up = time.monotonic() + _LOCK_PATIENCE
        while not _try_lock(descriptor):
            if time.monotonic() > give_up:
                raise StoreError(f"{path} is held by another pki command: wait for it to end, then try again")
            time.sleep(_LOCK_INTERVAL)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _beside(path: Path) -> Path:
    return path.parent / f".{path.name}.{secrets.token_hex(6)}"


def _write_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode & 0o600)
    try:
        _write_all(descriptor, data)
        os.fchmod(descriptor, mode)  # after the bytes, and whatever the umask is
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error
