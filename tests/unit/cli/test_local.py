"""`zkp local status` shows the processes even if no coordinator answers."""

import json
import os
from pathlib import Path

import pytest

from pki.tls.material import TlsError
from zkp.cli import app, status
from zkp.client.admin import ClusterStatus
from zkp.client.errors import NoLeader
from zkp.localcluster.configuration import addresses
from zkp.localcluster.layout import COORDINATORS, Layout
from zkp.localcluster.process import ProcessRecord, boot_id
from zkp.localcluster.profile import ClusterProfile

LEADERLESS = ClusterStatus("", 7, (), (), {}, "unknown", 0)


def me() -> ProcessRecord:
    """The record of this process, which is alive during the test."""
    started_ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return ProcessRecord(os.getpid(), started_ticks, boot_id())


def cluster(directory: Path, *running: str) -> list[str]:
    """Return the options for a cluster of which only these processes run."""
    ClusterProfile(addresses(17000, 1), True, dict.fromkeys(running, me())).save(Layout(directory).profile)
    return ["--dir", str(directory)]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (NoLeader("no coordinator answered", {}), "no answer: no coordinator answered"),
        (TlsError("key.pem: no such file"), "no answer: key.pem: no such file"),
        (LEADERLESS, "no leader; check that a majority of the coordinators is running"),
    ],
)
def test_processes_are_shown_whatever_the_coordinators_say(
    answer: Exception | ClusterStatus,
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Processes, addresses and logs are printed, then the cluster's problem; the exit status is 1."""

    def ask(_: object) -> ClusterStatus:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(status, "query", ask)
    everything = ("postgres", *COORDINATORS, "worker-1", "gateway")
    where = cluster(tmp_path, *everything)

    assert app.run(["local", "status", "--json", *where]) == 1

    said = capsys.readouterr()
    document = json.loads(said.out)
    assert [(process["name"], process["state"]) for process in document["processes"]] == [
        (name, "up") for name in everything
    ]
    assert document["processes"][1]["addresses"]["grpc"] == "127.0.0.1:17011"
    assert document["processes"][1]["log"] == str(tmp_path / "logs" / "coordinator-1.log")
    assert document["problem"] == problem
    assert said.err == f"error: {problem}\n"

    assert app.run(["local", "status", *where]) == 1
    shown = capsys.readouterr().out
    assert "grpc=127.0.0.1:17011" in shown
    assert isinstance(answer, ClusterStatus) or f"Cluster: {problem}\n" in shown


def test_coordinators_that_are_down_are_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Coordinators that are down are not queried, and are named."""
    monkeypatch.setattr(status, "query", lambda _: pytest.fail("asked a cluster without coordinators"))
    where = cluster(tmp_path, "worker-1", "gateway")

    assert app.run(["local", "status", "--json", *where]) == 1

    said = capsys.readouterr()
    document = json.loads(said.out)
    assert (document["cluster"], document["problem"]) == (None, "no answer: every coordinator is down")
    assert "down: postgres, coordinator-1, coordinator-2, coordinator-3; run `zkp local up`" in said.err
