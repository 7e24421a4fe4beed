"""What an operator does with a stopped node's files: look whether they can be used, set them aside, force a vote.

The caller must hold the directory's lock (`storage/directory_lock.py`). Every function raises StorageError.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from coordinator.raft.errors import StorageError
from coordinator.raft.membership import Membership, MemberState
from coordinator.raft.node import RaftNode
from coordinator.raft.snapshots import StateMachine, Work
from coordinator.raft.status import RaftOptions
from coordinator.raft.storage.checksummed_json import ChecksumError, load
from coordinator.raft.storage.disk import OsDisk
from zkp.protocol.v1 import raft_pb2 as pb

_MEMBERSHIP = "membership"
_SMALL = (_MEMBERSHIP, "vote")
_SUFFIXES = frozenset({".segment", ".snapshot", ".tmp"})


class _Unused:
    """Peers and listeners of a node that is only looked at."""

    def send(self, peer_id: str, envelope: pb.Envelope) -> None:
        """Nothing is connected."""

    def backlog(self, _peer_id: str) -> int:
        return 0

    def leading(self, term: int) -> None:
        """Never: it is not driven."""

    def following(self) -> None:
        """Never: it is not driven."""


def own_files(directory: Path) -> list[Path]:
    """The node's own files in its directory, which may hold others' too."""
    return [
        path
        for path in sorted(directory.iterdir())
        if path.is_file() and (path.name in _SMALL or path.suffix in _SUFFIXES)
    ]


def owner(directory: Path) -> str | None:
    """Whose files they are; None when nothing says it that could be believed."""
    try:
        return str(load((directory / _MEMBERSHIP).read_bytes())["node_id"])
    except (FileNotFoundError, ChecksumError, KeyError):
        return None


def fault(directory: Path, machine: StateMachine) -> StorageError | None:
    """Why the node would refuse to start, found by the code that refuses; None when it would not.

    `machine` is left with the state of the files.
    """
    if not (directory / _MEMBERSHIP).exists():
        return StorageError(f"file {_MEMBERSHIP} is missing: an earlier move was interrupted")
    unused = _Unused()
    try:
        RaftNode(
            RaftOptions(node_id=owner(directory) or "", peer_ids=(), bootstrap=False),
            disk=OsDisk(directory),
            outbox=unused,
            machine=machine,
            listener=unused,
            offload=_never,
            make_id=str,
        )
    except StorageError as error:
        return error
    return None


def set_aside(directory: Path, name: str) -> Path:
    """Move the node's own files into a new directory beside them, so that its next start finds none."""
    files = own_files(directory)
    aside = directory / name
    try:
        aside.mkdir(mode=0o700)
        # The membership goes first: without it, a node that has anything left of a log refuses to start.
        for path in sorted(files, key=lambda path: path.name != _MEMBERSHIP):
            path.rename(aside / path.name)
            _sync(aside)
            _sync(directory)
    except OSError as error:
        raise StorageError(f"{error.filename} cannot be moved: {error.strerror}") from error
    return aside


def vote_regardless(directory: Path) -> str:
    """Let a node vote that has adopted its cluster and has not caught up with it; the node's id."""
    node_id = owner(directory)
    if node_id is None:
        raise StorageError(
            "these files are in no cluster yet: start the node beside the one that kept its files, and stop it when "
            "it has adopted the cluster"
        )
    membership = Membership(OsDisk(directory), node_id, [], bootstrap=False, make_id=str)
    if membership.standing is MemberState.VOTER:
        raise StorageError(f"{node_id} already votes")
    membership.caught_up()
    return node_id


def _never(_work: Work, _done: Callable[[Any], None]) -> None:
    """A node that is not driven makes no snapshot."""


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
