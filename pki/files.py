"""How this room touches a disk: whole files and whole directories appear at once, and survive a crash.

Everything is written beside its place, synced, then renamed into it, and the directory is synced after. An
`OSError` leaves as one line with the path.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pki.errors import StoreError

_LOCK_PATIENCE = 10.0  # seconds; issuing takes milliseconds, so whoever holds it longer is stuck
_LOCK_INTERVAL = 0.02
_FEW = 8
_AT_ONCE = 8
_CURES = {
    errno.ENOSPC: "; free some space, then try again",
    errno.EDQUOT: "; free some space, then try again",
    errno.EFBIG: "; raise the limit on file sizes (ulimit -f), then try again",
    errno.EROFS: ": mount it writable, or name another place",
    errno.EACCES: ": run as the user that owns it, or name another place",
}

Contents = dict[str, tuple[bytes, int]]
"""File names with their bytes and modes."""


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


def create_directory(target: Path, contents: Contents, *, mode: int) -> None:
    """Make `target` with these files, or nothing at all; never touch an old one. Raises `StoreError`."""
    create_directories({target: contents}, mode=mode)


def create_directories(targets: Mapping[Path, Contents], *, mode: int) -> None:
    """Make several. All are written before the first appears, so that a full disk leaves none behind."""
    drafts: dict[Path, Path] = {}

    def write(target: Path) -> None:
        with _explained(target):
            draft = drafts[target]
            draft.mkdir(mode=0o700)
            for name, (data, file_mode) in targets[target].items():
                _write_new(draft / name, data, file_mode)
            draft.chmod(mode)
            _sync(draft)

    try:
        for target in targets:
            with _explained(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists() and (not target.is_dir() or any(target.iterdir())):
                    raise StoreError(f"{target} already exists: choose another path, or remove it first")
                drafts[target] = _beside(target)
        _side_by_side(write, targets)
        for target, draft in drafts.items():
            with _explained(target):
                draft.rename(target)  # takes the place of an empty directory, fails on any other
        _side_by_side(_sync, {target.parent for target in targets})
    finally:
        for draft in drafts.values():
            shutil.rmtree(draft, ignore_errors=True)


def replace_files(contents: Mapping[Path, tuple[bytes, int]]) -> None:
    """Put these bytes and modes in the places of these files, which may be missing; raises `StoreError`.

    Each file is the old one or the new one at any moment. All are written before the first is replaced, so that
    a full disk changes none.
    """
    drafts = {path: _beside(path) for path in contents}

    def write(path: Path) -> None:
        with _explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_new(drafts[path], *contents[path])

    try:
        _side_by_side(write, contents)
        for path, draft in drafts.items():
            with _explained(path):
                draft.replace(path)
        _side_by_side(_sync, {path.parent for path in contents})
    finally:
        for draft in drafts.values():
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


def remove_file(path: Path) -> None:
    """Remove a file that may be gone already; raises `StoreError`."""
    with _explained(path):
        path.unlink(missing_ok=True)
    _sync(path.parent)


def append_durably(path: Path, data: bytes, *, at: int) -> None:
    """Write `data` at offset `at`, cut off whatever lies behind it, and return when it is on the disk.

    A disk that takes a part of it only is left as if nothing had been written: the part may hold whole lines.
    """
    with _explained(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.ftruncate(descriptor, at)
            os.lseek(descriptor, at, os.SEEK_SET)
            try:
                _write_all(descriptor, data)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, at)
                os.fsync(descriptor)
                raise
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


def _side_by_side(write: Callable[[Path], None], paths: Iterable[Path]) -> None:
    """Do it to each; when they are many at once, because a disk that syncs one has time for others."""
    waiting = list(paths)
    if len(waiting) <= _FEW:
        for path in waiting:
            write(path)
        return
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # slow to import, and seldom needed

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        list(pool.map(write, waiting))


def _sync(path: Path) -> None:
    """Return when a directory's entries are on the disk."""
    with _explained(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cure = _CURES.get(error.errno or 0, "")
        raise StoreError(f"{path}: {error.strerror or error}{cure}") from error
