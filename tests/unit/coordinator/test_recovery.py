"""Curing a stopped node: what is set aside, what is refused, and what an interruption leaves behind."""

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coordinator.raft import recovery
from coordinator.raft.errors import StorageError
from coordinator.raft.membership import Membership, MemberState, PeerView
from coordinator.raft.storage.directory_lock import directory_lock
from coordinator.raft.storage.disk import OsDisk
from coordinator.raft.storage.journal import Journal
from coordinator.recovery import RejoinRefused, force_vote, rejoin
from coordinator.replication.replicator import ReplicatedState

CLUSTER = "c" * 32
NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
ASIDE = "set-aside-20261123T120000Z"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The files of a voter with a vote and three log entries, and a foreign file."""
    disk = OsDisk(tmp_path)
    Membership(disk, "n1", [], bootstrap=True, make_id=lambda: CLUSTER)
    journal = Journal(disk, CLUSTER, "n1", 4096)
    journal.setCurrentTerm(3, "n2")
    for index in (1, 2, 3):
        journal.add(b"\x01", index, 3)
    journal.sync()
    journal.close()
    (tmp_path / "keys").mkdir()
    (tmp_path / "README").write_text("not ours")
    return tmp_path


def damage(path: Path) -> None:
    path.write_bytes(b"x" + path.read_bytes()[1:])


def member(directory: Path) -> Membership:
    """The node as it finds itself when it starts."""
    return Membership(OsDisk(directory), "n1", ["n2"], bootstrap=True, make_id=lambda: CLUSTER)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


@pytest.mark.parametrize("name", ["membership", "vote", "000000000001.segment"])
def test_damaged_files_are_set_aside_together(directory: Path, name: str) -> None:
    """Only the node's own files are moved, into a private directory, and the fault is named."""
    damage(directory / name)
    said = rejoin(directory, NOON, force=False)
    assert said.startswith(f"set aside in {directory / ASIDE}: ")
    assert name in said
    assert names(directory) == {"keys", "README", ASIDE}
    assert names(directory / ASIDE) == {"membership", "vote", "000000000001.segment"}
    assert stat.S_IMODE((directory / ASIDE).stat().st_mode) == 0o700


def test_sound_files_are_set_aside_only_when_forced(directory: Path) -> None:
    """They may be what the cluster needs."""
    with pytest.raises(RejoinRefused, match=r"the files are sound: start the coordinator, or .* with --force"):
        rejoin(directory, NOON, force=False)
    assert names(directory) == {"membership", "vote", "000000000001.segment", "keys", "README"}
    assert rejoin(directory, NOON, force=True) == f"set aside in {directory / ASIDE}"


def test_looking_at_sound_files_changes_none(directory: Path) -> None:
    """Not even their times."""
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in recovery.own_files(directory)}
    assert recovery.fault(directory, ReplicatedState()) is None
    after = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in recovery.own_files(directory)}
    assert after == before


def test_a_directory_without_a_nodes_files_is_refused(tmp_path: Path) -> None:
    """An operator mistyped it, or the node was cured already."""
    with pytest.raises(RejoinRefused, match="no files of a coordinator"):
        rejoin(tmp_path, NOON, force=True)
    with pytest.raises(RejoinRefused, match="none: No such file or directory"):
        rejoin(tmp_path / "none", NOON, force=False)


@pytest.mark.parametrize("moved", [1, 2])
def test_an_interrupted_move_leaves_nothing_that_votes_and_can_be_finished(
    directory: Path, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that voted without its vote, or its log, would be worse than one that is down."""
    rename, moves = Path.rename, 0

    def rename_some(path: Path, target: Path) -> Path:
        nonlocal moves
        moves += 1
        if moves > moved:
            raise OSError(5, "Input/output error", str(path))
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", rename_some)
        with pytest.raises(RejoinRefused, match="cannot be moved: Input/output error"):
            rejoin(directory, NOON, force=True)
    assert "membership" not in names(directory)
    if "000000000001.segment" in names(directory):
        with pytest.raises(StorageError, match="membership is missing beside a journal"):
            member(directory)
    else:
        assert member(directory).standing is MemberState.WAITING
    assert "membership is missing" in rejoin(directory, NOON + timedelta(seconds=1), force=False)
    assert not recovery.own_files(directory)


def test_a_vote_is_forced_for_a_node_that_is_catching_up(tmp_path: Path) -> None:
    """Once: then it votes."""
    member(tmp_path).on_hello("n2", PeerView(CLUSTER, 17))
    assert force_vote(tmp_path) == "n1 votes from its next start on, whatever it lacks"
    assert member(tmp_path).standing is MemberState.VOTER
    with pytest.raises(RejoinRefused, match="n1 already votes"):
        force_vote(tmp_path)


def test_no_vote_is_forced_without_a_cluster(tmp_path: Path) -> None:
    """It would not know which to vote in."""
    with pytest.raises(RejoinRefused, match="in no cluster yet: start the node beside the one that kept its files"):
        force_vote(tmp_path)


def test_files_in_use_are_left_alone(directory: Path) -> None:
    """Another process's lock is in the way, and gone with that process's descriptor."""
    in_use = "a running coordinator uses this directory: stop it first"
    with directory_lock(directory):
        with pytest.raises(RejoinRefused, match=in_use):
            rejoin(directory, NOON, force=True)
        with pytest.raises(RejoinRefused, match=in_use):
            force_vote(directory)
    assert rejoin(directory, NOON, force=True)


def test_another_users_files_are_left_alone(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The daemon could not open what root leaves behind."""
    monkeypatch.setattr("os.geteuid", lambda: directory.stat().st_uid + 1)
    with pytest.raises(RejoinRefused, match=r"belongs to user .*: run the command as that user"):
        rejoin(directory, NOON, force=True)
