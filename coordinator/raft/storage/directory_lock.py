"""One process at a time on a node's files: two would overwrite each other's log."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from coordinator.raft.errors import StorageError


@contextlib.contextmanager
def directory_lock(directory: Path) -> Iterator[None]:
    """Hold the directory lock within the context; the kernel releases it if the process exits.

    Raises StorageError when another process holds it.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise StorageError(f"cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError("a running coordinator uses this directory: stop it first") from None
        yield
    finally:
        os.close(descriptor)
