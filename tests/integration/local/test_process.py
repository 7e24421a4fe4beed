"""Detached processes: identified, stopped, and not confused with others."""

import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from zkp.localcluster import process
from zkp.localcluster.errors import LocalClusterError
from zkp.localcluster.process import MARKER, ProcessRecord, boot_id, kill_orphans, orphans, spawn

_SLEEPER = "import time; print('awake', flush=True); time.sleep(600)"
_STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('awake', flush=True); time.sleep(600)"
)
_TIMEOUT_S = 30.0


@pytest.fixture
def started() -> Iterator[list[ProcessRecord]]:
    """Records of the processes that a test started; they are killed at its end."""
    records: list[ProcessRecord] = []
    yield records
    for record in records:
        record.stop(_TIMEOUT_S, first=signal.SIGKILL)


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
    """It survives its terminal and parent, and only its owner can read the log."""
    record = start(tmp_path, _SLEEPER, started)

    assert record.alive()
    assert os.getsid(record.pid) == record.pid
    assert (tmp_path / "logs" / "program.log").stat().st_mode & 0o777 == 0o600


def test_a_process_that_handles_sigterm_is_not_killed(tmp_path: Path, started: list[ProcessRecord]) -> None:
    """A process that handles SIGTERM stops, and its record is not alive."""
    record = start(tmp_path, _SLEEPER, started)

    assert record.stop(_TIMEOUT_S)
    assert not record.alive()


def test_a_process_that_ignores_sigterm_is_killed(tmp_path: Path, started: list[ProcessRecord]) -> None:
    """A process that ignores SIGTERM is killed."""
    record = start(tmp_path, _STUBBORN, started)

    assert not record.stop(0.05)
    assert not record.alive()


def test_stopping_twice_is_the_same_as_stopping_once(tmp_path: Path, started: list[ProcessRecord]) -> None:
    """A second stop does nothing."""
    record = start(tmp_path, _SLEEPER, started)
    record.stop(_TIMEOUT_S)

    assert record.stop(_TIMEOUT_S)
    assert not record.send(signal.SIGKILL)


def test_a_recycled_pid_is_not_touched(tmp_path: Path, started: list[ProcessRecord]) -> None:
    """A process with the same pid but another start time or boot is not signalled."""
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
    """A zombie is not alive."""
    record = start(tmp_path, _SLEEPER, started)
    os.kill(record.pid, signal.SIGKILL)

    assert record.wait(_TIMEOUT_S)
    assert not record.alive()


def test_a_child_that_ends_while_it_is_looked_at_leaves_no_zombie(
    tmp_path: Path, started: list[ProcessRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once `wait` returns, the child has been reaped."""
    record = start(tmp_path, _SLEEPER, started)
    look = process._start_time

    def look_too_late(pid: int) -> int | None:
        os.kill(pid, signal.SIGKILL)
        while look(pid) is not None:
            pass
        return None

    monkeypatch.setattr(process, "_start_time", look_too_late)

    assert record.wait(_TIMEOUT_S)
    assert not Path(f"/proc/{record.pid}").exists()


def test_only_orphans_of_the_cluster_are_killed(tmp_path: Path, started: list[ProcessRecord]) -> None:
    """Processes with the directory's marker are killed, those of another cluster are not."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "theirs").mkdir()
    mine = start(tmp_path / "mine", _SLEEPER, started)
    theirs = start(tmp_path / "theirs", _SLEEPER, started)

    assert orphans(tmp_path / "mine") == [mine]
    assert kill_orphans(tmp_path / "mine") == 1
    assert not mine.alive()
    assert theirs.alive()


def test_a_missing_program_is_an_error(tmp_path: Path) -> None:
    """The error names the program."""
    with pytest.raises(LocalClusterError, match="/does/not/exist: cannot be started: No such file"):
        spawn(["/does/not/exist"], log=tmp_path / "log", environ={})


def test_the_boot_is_named_the_same_within_one_boot() -> None:
    """The boot id is stable."""
    assert boot_id() == boot_id() != ""
