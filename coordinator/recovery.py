"""Repair of a stopped node: `coordinator rejoin` and `coordinator force-vote`.

Both use only the node's own files, need no configuration and contact no other node. The operator has to know what the
other nodes hold; docs/operations.md says how.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from coordinator.raft import StorageError, recovery
from coordinator.raft.storage.directory_lock import directory_lock
from coordinator.replication.replicator import ReplicatedState


class RejoinRefused(Exception):
    """The repair is unnecessary or harmful; the message says what to do instead."""


def rejoin(directory: Path, now: datetime, *, force: bool) -> str:
    """Set the node's own files aside, so that it starts empty and the others bring it up to date.

    Returns:
        One sentence that says what was done.

    Raises:
        RejoinRefused: also when the node could use its files as they are, unless `force` is set.
    """
    with _stopped(directory):
        if not recovery.own_files(directory):
            raise StorageError("no files of a coordinator; start it and the others bring it up to date")
        fault = recovery.fault(directory, ReplicatedState())
        if fault is None and not force:
            raise StorageError("the files are sound: start the coordinator, or set them aside with --force")
        aside = recovery.set_aside(directory, f"set-aside-{now:%Y%m%dT%H%M%SZ}")
    return f"set aside in {aside}" + (f": {str(fault).partition(': ')[0]}" if fault else "")


def force_vote(directory: Path) -> str:
    """Let the node vote before it has caught up, and return one sentence that says so. Raises RejoinRefused."""
    with _stopped(directory):
        node_id = recovery.vote_regardless(directory)
    return f"{node_id} votes from its next start on, whatever it lacks"


@contextmanager
def _stopped(directory: Path) -> Iterator[None]:
    """Hold the directory lock, as the user that owns the files. Raises RejoinRefused."""
    try:
        user = directory.stat().st_uid
        if user == os.geteuid():
            with directory_lock(directory):
                yield
                return
    except StorageError as error:
        raise RejoinRefused(f"{directory}: {error}") from error
    except OSError as error:
        raise RejoinRefused(f"{error.filename or directory}: {error.strerror}") from error
    raise RejoinRefused(f"{directory}: belongs to user {user}: run the command as that user")
