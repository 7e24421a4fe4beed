"""`zkp trace` without a network: from files, and from reachable and unreachable hosts."""

import json
import subprocess
from pathlib import Path

import pytest

from zkp.cli.app import run

LINE = {"ts": "2026-11-23T12:00:00.250000Z", "level": "info", "logger": "zkp.worker", "message": "task proved"}
RECORD = {"__REALTIME_TIMESTAMP": "1795435200000000", "MESSAGE": "task completed", "PRIORITY": "6"}


@pytest.fixture
def nowhere(tmp_path: Path) -> list[str]:
    """The option for a directory without a cluster."""
    return ["--dir", str(tmp_path / "nowhere")]


def test_files_of_many_nodes_are_one_timeline(
    tmp_path: Path, nowhere: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Log files of both formats are merged, with a note that the cluster's own times are missing."""
    worker, coordinator = tmp_path / "worker-1.log", tmp_path / "coordinator-1.json"
    worker.write_text(json.dumps({**LINE, "task_id": "t-1"}) + "\n", encoding="utf-8")
    coordinator.write_text(json.dumps({**RECORD, "ZKP_TASK_ID": "t-1"}) + "\n", encoding="utf-8")
    status = run(["trace", "t-1", "--log", str(worker), "--log", str(coordinator), *nowhere])
    out, err = capsys.readouterr()
    assert status == 0
    assert [line.split()[2] for line in out.splitlines()[1:]] == ["coordinator-1", "worker-1"]
    assert "the cluster's own times are missing" in err


def test_json_has_numbers_as_numbers_and_one_form_of_times(
    tmp_path: Path, nowhere: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Numbers are the same from a log and from a journal, which stores text."""
    log, journal = tmp_path / "worker-1.log", tmp_path / "coordinator-1.json"
    log.write_text(json.dumps({**LINE, "task_id": "t-1", "attempt": 2}) + "\n", encoding="utf-8")
    record = {**RECORD, "ZKP_TASK_ID": "t-1", "ZKP_ATTEMPT": "2", "ZKP_TERM": "7", "ZKP_REASON": "7"}
    journal.write_text(json.dumps(record) + "\n", encoding="utf-8")
    assert run(["trace", "t-1", "--json", "--log", str(log), "--log", str(journal), *nowhere]) == 0
    first, second = json.loads(capsys.readouterr().out)
    assert (first["at"], second["at"]) == ("2026-11-23T12:00:00.000Z", "2026-11-23T12:00:00.250Z")
    assert (first["attempt"], first["term"], first["reason"], second["attempt"]) == (2, 7, "7", 2)


def test_a_host_that_does_not_answer_is_named(
    nowhere: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a host is unreachable, the events of the others are shown, and the command fails."""
    asked = []

    def journal(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        if "down.example" in command:
            return subprocess.CompletedProcess(command, 255, "", "ssh: connect to host down.example: timed out\n")
        return subprocess.CompletedProcess(command, 0, json.dumps({**RECORD, "ZKP_TASK_ID": "t-1"}) + "\n", "")

    monkeypatch.setattr(subprocess, "run", journal)
    status = run(["trace", "t-1", "--host", "up.example", "--host", "down.example", *nowhere])
    out, err = capsys.readouterr()
    assert status == 1
    assert "up.example" in out
    assert "error: no journal from down.example: ssh: connect to host down.example: timed out" in err
    assert all(command[-1] == "ZKP_TASK_ID=t-1" for command in asked)


@pytest.mark.parametrize(
    "arguments",
    [["t-1; reboot"], ["--", "-t"], ["t-1", "--host", "-oProxyCommand=reboot"], ["t-1", "--host", "a b"]],
)
def test_nothing_strange_reaches_a_shell_on_another_host(
    arguments: list[str], nowhere: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hosts that ssh would treat as options or pass to a shell are rejected."""
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a program was started"))
    assert run(["trace", *nowhere, *arguments]) in {1, 2}
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")


def test_an_unknown_task_is_a_failure(nowhere: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown task is a one-line error without output."""
    assert run(["trace", "t-1", *nowhere]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1] == "error: task t-1: not found on any node"
