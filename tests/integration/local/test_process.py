"""Detached processes: recognised for good, stopped for certain, and never mistaken for another's."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from zkp.localcluster import process
from zkp.localcluster.errors import LocalClusterError
from zkp.localcluster.process import MARKER, ProcessRecord, boot_id, end_remnants, remnants, spawn

_SLEEPER = "import time; print('awake', flush=True); time.sleep(600)"
_STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('awake', flush=True); time.sleep(600)"
)
_PATIENCE = 30.0


@pytest.fixture
def started() -> Iterator[list[ProcessRecord]]:
    """Records of what a test started; killed at its end."""
    records: list[ProcessRecord] = []
    yield records
    for record in records:
        record.stop(_PATIENCE, first=signal.SIGKILL)


def start(directory: Path, program: str, started: list[ProcessRecord]) -> ProcessRecord:
    """A Python program that says "awake" and runs on, marked as part of the cluster in `directory`."""
    log = directory / "logs" / "program.log"
    record = spawn([sys.executable, "-c", program], log=log, environ={**os.environ, MARKER: str(directory)})
    started.append(record)
    while "awake" not in log.read_text():
        assert record.alive(), "the program ended before it said anything"
        record.wait(0.01)
    return record


def test_a_process_runs_in_a_session_of_its_own_and_logs_to_its_file(
    tmp_path: Path, started: list[ProcessRecord]
) -> None:
    """It survives the terminal and the command that started it, and only its owner reads its log."""
    record = start(tmp_path, _SLEEPER, started)

    assert record.alive()
    assert os.getsid(record.pid) == record.pid
    assert (tmp_path / "logs" / "program.log").stat().st_mode & 0o777 == 0o600


def test_a_polite_process_ends_at_the_first_signal(tmp_path: Path, started: list[ProcessRecord]) -> None:
    """SIGTERM suffices, and afterwards the record is known to be of a dead process."""
    record = start(tmp_path, _SLEEPER, started)

    assert record.stop(_PATIENCE)
    assert not record.alive()


def test_a_stubborn_process_is_killed_after_the_grace_period(tmp_path: Path, started: list[ProcessRecord]) -> None:
    """A process that ignores SIGTERM does not stay."""
    record = start(tmp_path, _STUBBORN, started)

    assert not record.stop(0.05)
    assert not record.alive()


def test_stopping_twice_is_the_same_as_stopping_once(tmp_path: Path, started: list[ProcessRecord]) -> None:
    """The second time finds nothing to do."""
    record = start(tmp_path, _SLEEPER, started)
    record.stop(_PATIENCE)

    assert record.stop(_PATIENCE)
    assert not record.send(signal.SIGKILL)


def test_a_recycled_pid_is_not_touched(tmp_path: Path, started: list[ProcessRecord]) -> None:
    """A process with the recorded pid that started at another time, or in another boot, is somebody else."""
    record = start(tmp_path, _SLEEPER, started)
    later = replace(record, started_ticks=record.started_ticks + 1)
    other_boot = replace(record, boot_id="00000000-0000-0000-0000-000000000000")

    assert not later.send(signal.SIGKILL)
    assert not other_boot.send(signal.SIGKILL)
    assert later.wait(0)
    assert record.alive()


def test_an_ended_child_counts_as_ended_before_anybody_waits_for_it(
    tmp_path: Path, started: list[ProcessRecord]
) -> None:
    """A zombie is no running process."""
    record = start(tmp_path, _SLEEPER, started)
    os.kill(record.pid, signal.SIGKILL)

    assert record.wait(_PATIENCE)
    assert not record.alive()


def test_a_child_that_ends_while_it_is_looked_at_leaves_no_zombie(
    tmp_path: Path, started: list[ProcessRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once `wait` has said that a child ended, its pid is free."""
    record = start(tmp_path, _SLEEPER, started)
    look = process._start_time

    def look_too_late(pid: int) -> int | None:
        os.kill(pid, signal.SIGKILL)
        while look(pid) is not None:
            pass
        return None

    monkeypatch.setattr(process, "_start_time", look_too_late)

    assert record.wait(_PATIENCE)
    assert not Path(f"/proc/{record.pid}").exists()


def test_remnants_of_a_cluster_are_found_and_killed_and_others_are_left(
    tmp_path: Path, started: list[ProcessRecord]
) -> None:
    """After a crash everything that carries the directory's mark goes, and nothing of another cluster."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs").mkdir()
    mine = start(tmp_path / "mine", _SLEEPER, started)
    theirs = start(tmp_path / "theirs", _SLEEPER, started)

    assert remnants(tmp_path / "mine") == [mine]
    assert end_remnants(tmp_path / "mine") == 1
    assert not mine.alive()
    assert theirs.alive()


def test_a_missing_program_is_said_in_one_line(tmp_path: Path) -> None:
    """What cannot be started is named."""
    with pytest.raises(LocalClusterError, match="cannot start /does/not/exist: No such file"):
        spawn(["/does/not/exist"], log=tmp_path / "log", environ={})


def test_the_boot_is_named_the_same_within_one_boot() -> None:
    """Records of one boot can be compared."""
    assert boot_id() == boot_id() != ""
