"""Finished proofs on disk."""

from pathlib import Path

import pytest

from worker.errors import SpoolError
from worker.job import AttemptId, FinishedProof
from worker.spool import Spool


def finished(task_id: str = "t-1", attempt: int = 1) -> FinishedProof:
    return FinishedProof(AttemptId(task_id, attempt), b"\x00\xffproof" * 30, 321)


def reopened(spool: Spool, path: Path) -> Spool:
    """The spool as the next process finds it."""
    spool.close()
    return Spool(path)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_a_proof_is_found_by_the_next_process(tmp_path: Path) -> None:
    """All fields are restored."""
    spool = Spool(tmp_path / "spool")
    await spool.put(finished("t-1"))
    await spool.put(finished("t-1", 2))
    spool = reopened(spool, tmp_path / "spool")
    assert sorted(found.id for found in spool.load()) == [AttemptId("t-1", 1), AttemptId("t-1", 2)]
    assert finished("t-1") in spool.load()


async def test_a_removed_proof_is_gone(tmp_path: Path) -> None:
    """It is not loaded again, and removing it twice is not an error."""
    spool = Spool(tmp_path / "spool")
    await spool.put(finished())
    await spool.remove(finished().id)
    await spool.remove(finished().id)
    assert spool.load() == []


async def test_the_same_proof_is_kept_once(tmp_path: Path) -> None:
    """Storing it again replaces it."""
    spool = Spool(tmp_path / "spool")
    await spool.put(finished())
    await spool.put(finished())
    assert len(spool.load()) == 1


async def test_other_users_cannot_read_it(tmp_path: Path) -> None:
    """Directory 0700, files 0600."""
    spool = Spool(tmp_path / "spool")
    await spool.put(finished())
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "spool").iterdir()} == {0o600}


@pytest.mark.parametrize("task_id", ["..", ".", "x" * 64, "../../etc/passwd", "a/b"])
async def test_a_task_id_is_not_used_as_a_path(tmp_path: Path, task_id: str) -> None:
    """Whatever a client calls its task, the file stays in the spool."""
    spool = Spool(tmp_path / "spool")
    await spool.put(finished(task_id))
    assert [found.id.task_id for found in spool.load()] == [task_id]
    assert names(tmp_path) == ["spool"]


async def test_an_interrupted_write_is_removed(tmp_path: Path) -> None:
    """After a crash the unfinished file is neither offered nor left behind."""
    spool = Spool(tmp_path / "spool")
    await spool.put(finished())
    (tmp_path / "spool" / "abc.new").write_bytes(b"half")
    assert len(spool.load()) == 1
    assert not (tmp_path / "spool" / "abc.new").exists()


@pytest.mark.parametrize("damage", [b"", b"garbage", b"\x00" * 300])
async def test_a_damaged_proof_is_renamed(tmp_path: Path, damage: bytes) -> None:
    """Bit rot costs that proof and nothing else, and the evidence is kept."""
    spool = Spool(tmp_path / "spool")
    await spool.put(finished("t-1"))
    (path,) = (tmp_path / "spool").glob("*.proof")
    await spool.put(finished("t-2"))
    path.write_bytes(damage)
    assert [found.id.task_id for found in spool.load()] == ["t-2"]
    assert len(list((tmp_path / "spool").glob("*.damaged"))) == 1


async def test_a_flipped_bit_is_damage(tmp_path: Path) -> None:
    """The checksum covers the whole report."""
    spool = Spool(tmp_path / "spool")
    await spool.put(finished())
    (path,) = (tmp_path / "spool").glob("*.proof")
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert spool.load() == []


async def test_the_spool_is_bounded(tmp_path: Path) -> None:
    """Unacknowledged proofs do not fill the disk."""
    spool = Spool(tmp_path / "spool", limit=2)
    await spool.put(finished("t-1"))
    await spool.put(finished("t-2"))
    with pytest.raises(SpoolError, match="holds 2 unacknowledged proofs"):
        await spool.put(finished("t-3"))


def test_a_spool_has_one_owner(tmp_path: Path) -> None:
    """A second worker on the same directory is refused before it could report the first one's proofs."""
    spool = Spool(tmp_path / "spool")
    with pytest.raises(SpoolError, match="give each worker its own data_dir"):
        Spool(tmp_path / "spool")
    spool.close()
    Spool(tmp_path / "spool").close()


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The message names the path and the remedy."""
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match=r"file/spool: Not a directory; make it writable for the worker's user"):
        Spool(tmp_path / "file" / "spool")
