"""The operating system's files behind the durable log: real ones, in a directory of the test's own."""

import os
import stat
from pathlib import Path

import pytest

from coordinator.raft.storage.disk import OsDisk


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "raft"


@pytest.fixture
def disk(directory: Path) -> OsDisk:
    return OsDisk(directory)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_may_look(disk: OsDisk, directory: Path) -> None:
    """Directory and files belong to the service alone: tasks carry private inputs."""
    disk.create("000000000001.segment", 100).close()
    disk.replace("vote", b"x")
    assert mode(directory) == 0o700
    assert {mode(path) for path in directory.iterdir()} == {0o600}


def test_space_is_reserved_when_a_file_is_made(disk: OsDisk, directory: Path) -> None:
    """A full disk is met then, not in the middle of a record."""
    disk.create("a", 100_000).close()
    found = (directory / "a").stat()
    assert found.st_size == 100_000
    assert found.st_blocks * 512 >= 100_000
    assert disk.read("a") == bytes(100_000)


def test_a_file_is_written_at_offsets(disk: OsDisk) -> None:
    """And opened again where it was left."""
    file = disk.create("a", 10)
    file.write_at(b"hello", 2)
    file.datasync()
    file.close()
    again = disk.open("a")
    again.write_at(b"!", 7)
    again.truncate(9)
    again.close()
    assert disk.read("a") == b"\0\0hello!\0"


def test_a_file_is_never_made_twice(disk: OsDisk) -> None:
    """A segment that is there already is not overwritten."""
    disk.create("a", 10).close()
    with pytest.raises(FileExistsError):
        disk.create("a", 10)


def test_replacing_leaves_one_file(disk: OsDisk) -> None:
    """Also when an earlier try broke off and left its half behind."""
    disk.replace("vote.tmp", b"half")
    disk.replace("vote", b"old")
    disk.replace("vote", b"new")
    assert (disk.names(), disk.read("vote")) == (["vote"], b"new")


def test_replacing_syncs_the_file_then_renames_then_syncs_the_directory(
    disk: OsDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another order a loss of power could leave an empty vote, or the old one after it was spoken."""
    calls: list[str] = []
    real_fsync, real_rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        calls.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def rename(path: Path, target: Path) -> Path:
        calls.append("rename")
        return real_rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", rename)
    disk.replace("vote", b"x")
    assert calls == ["file", "rename", "directory"]
    calls.clear()
    disk.create("segment", 10).close()
    assert calls == ["file", "directory"]


def test_what_is_not_there_reads_as_nothing(disk: OsDisk) -> None:
    """And may be removed."""
    assert disk.read("vote") is None
    disk.remove("vote")


def test_short_writes_are_finished(disk: OsDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operating system may take less than it was given."""
    real_pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, offset: real_pwrite(descriptor, data[:3], offset))
    file = disk.create("a", 10)
    file.write_at(b"0123456789", 0)
    file.close()
    assert disk.read("a") == b"0123456789"
