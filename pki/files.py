"""Durable, atomic writes of files and directories.

Content is written to a temporary path in the same directory, synced and renamed; then the directory is synced. An
`OSError` becomes a `StoreError` of one line with the path.
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

_LOCK_TIMEOUT_S = 10.0  # issuing takes milliseconds, so a process that holds the lock longer is stuck
_LOCK_INTERVAL_S = 0.02
_MAX_SEQUENTIAL = 8
_MAX_THREADS = 8
_HINTS = {
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
    """Paths of an identity's PEM files: leaf and issuing CA, private key, trusted roots, CRLs.

    The file `crl` may not exist yet; None disables the CRL check.
    """

    certificate: Path
    key: Path
    ca: Path
    crl: Path | None = None

    @classmethod
    def in_directory(cls, directory: Path) -> Self:
        """Return the paths of the layout that `pki issue` writes."""
        return cls(directory / "certificate.pem", directory / "key.pem", directory / "ca.pem", directory / "crl.pem")


def create_directory(target: Path, contents: Contents, *, mode: int) -> None:
    """Create `target` with these files, all or nothing; raise `StoreError` if it exists and is not empty."""
    create_directories({target: contents}, mode=mode)


def create_directories(targets: Mapping[Path, Contents], *, mode: int) -> None:
    """Create several directories; all are written before the first rename, so that a full disk leaves none."""
    drafts: dict[Path, Path] = {}

    def write(target: Path) -> None:
        with _as_store_error(target):
            draft = drafts[target]
            draft.mkdir(mode=0o700)
            for name, (data, file_mode) in targets[target].items():
                _write_new(draft / name, data, file_mode)
            draft.chmod(mode)
            _sync(draft)

    try:
        for target in targets:
            with _as_store_error(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                if target.exists() and (not target.is_dir() or any(target.iterdir())):
                    raise StoreError(f"{target} already exists: choose another path, or remove it first")
                drafts[target] = _temporary_path(target)
        _for_each(write, targets)
        for target, draft in drafts.items():
            with _as_store_error(target):
                draft.rename(target)  # replaces an empty directory, fails on any other
        _for_each(_sync, {target.parent for target in targets})
    finally:
        for draft in drafts.values():
            shutil.rmtree(draft, ignore_errors=True)


def replace_files(contents: Mapping[Path, tuple[bytes, int]]) -> None:
    """Replace or create files with these bytes and modes; raise `StoreError` on failure.

    Each file is replaced atomically. All are written before the first is replaced, so that a full disk changes none.
    """
    drafts = {path: _temporary_path(path) for path in contents}

    def write(path: Path) -> None:
        with _as_store_error(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_new(drafts[path], *contents[path])

    try:
        _for_each(write, contents)
        for path, draft in drafts.items():
            with _as_store_error(path):
                draft.replace(path)
        _for_each(_sync, {path.parent for path in contents})
    finally:
        for draft in drafts.values():
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)


def remove_file(path: Path) -> None:
    """Remove a file if it exists; raise `StoreError` on failure."""
    with _as_store_error(path):
        path.unlink(missing_ok=True)
    _sync(path.parent)


def append_durably(path: Path, data: bytes, *, at: int) -> None:
    """Truncate the file at offset `at`, write `data` there and sync it.

    A partial write is undone, because the written part may contain whole lines.
    """
    with _as_store_error(path):
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
    """Return the bytes of a file; raise `StoreError` on failure."""
    with _as_store_error(path):
        return path.read_bytes()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `path`; raise `StoreError` after `_LOCK_TIMEOUT_S`."""
    with _as_store_error(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        give_up = time.monotonic() + _LOCK_TIMEOUT_S
        while not _try_lock(descriptor):
            if time.monotonic() > give_up:
                raise StoreError(f"{path} is held by another pki command: wait for it to end, then try again")
            time.sleep(_LOCK_INTERVAL_S)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _temporary_path(path: Path) -> Path:
    return path.parent / f".{path.name}.{secrets.token_hex(6)}"


def _write_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode & 0o600)
    try:
        _write_all(descriptor, data)
        os.fchmod(descriptor, mode)  # after the write, independent of the umask
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _for_each(write: Callable[[Path], None], paths: Iterable[Path]) -> None:
    """Call `write` for each path; with many paths, in threads, because syncs overlap on the disk."""
    waiting = list(paths)
    if len(waiting) <= _MAX_SEQUENTIAL:
        for path in waiting:
            write(path)
        return
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  # slow to import and rarely needed

    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        list(pool.map(write, waiting))


def _sync(path: Path) -> None:
    """Sync a directory's entries to the disk."""
    with _as_store_error(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def _as_store_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        cure = _HINTS.get(error.errno or 0, "")
        raise StoreError(f"{path}: {error.strerror or error}{cure}") from error
