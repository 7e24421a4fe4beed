"""A local cluster with real processes."""

import json
import os
import re
import signal
import stat
import threading
from pathlib import Path

import pytest

from zkp.cli import app
from zkp.localcluster.cluster import LocalCluster
from zkp.localcluster.errors import LocalClusterError
from zkp.localcluster.https import HttpsCaller
from zkp.localcluster.layout import ADMIN, COORDINATORS
from zkp.localcluster.process import orphans

MEMBERS = ["postgres", "coordinator-1", "coordinator-2", "coordinator-3", "worker-1", "worker-2", "gateway"]


def pids(cluster: LocalCluster) -> dict[str, int | None]:
    """Return each member's pid."""
    return {member.name: member.pid for member in cluster.members()}


def test_everything_runs_and_serves(cluster: LocalCluster) -> None:
    """After `up` every member is a separate process and every daemon is ready."""
    assert list(pids(cluster)) == MEMBERS
    assert len(set(pids(cluster).values()) - {None}) == len(MEMBERS)
    caller = HttpsCaller(cluster.layout.identity(ADMIN))
    assert all(caller.ready(own["health"]) for own in cluster.profile.addresses.values())


def test_one_of_the_nodes_leads(cluster: LocalCluster) -> None:
    """The nodes agree on a leader among them."""
    leader = cluster.leader()

    assert leader is not None
    assert leader.id in COORDINATORS
    assert leader.term > 0


def test_private_files_are_private(cluster: LocalCluster) -> None:
    """The directory and the private keys are accessible to their owner only."""
    root = cluster.layout.root

    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(key.stat().st_mode) in {0o600, 0o400} for key in root.rglob("*.key"))
    keys = list(root.glob("identities/*/key.pem"))
    assert len(keys) == 9
    assert all(stat.S_IMODE(key.stat().st_mode) == 0o600 for key in keys)


def test_a_second_up_starts_nothing(cluster: LocalCluster) -> None:
    """A second `up` leaves running processes alone."""
    before = pids(cluster)

    assert cluster.up() is False
    assert pids(cluster) == before


def test_up_starts_what_is_missing(cluster: LocalCluster) -> None:
    """After a crash `up` restarts the crashed members only."""
    before = pids(cluster)
    cluster.kill("worker-1")
    cluster.kill("coordinator-2")
    assert {name for name, pid in pids(cluster).items() if pid is None} == {"worker-1", "coordinator-2"}

    assert cluster.up() is True

    after = pids(cluster)
    assert {name for name in MEMBERS if after[name] != before[name]} == {"worker-1", "coordinator-2"}
    assert None not in after.values()


def test_up_starts_a_member_that_is_about_to_exit(cluster: LocalCluster) -> None:
    """`kill PID; zkp local up`: it still runs when `up` looks for what is missing, and is ready in the end."""
    before = pids(cluster)["coordinator-1"]
    assert before is not None
    os.kill(before, signal.SIGSTOP)
    os.kill(before, signal.SIGTERM)  # takes effect once it continues
    waking = threading.Timer(2.0, os.kill, (before, signal.SIGCONT))
    waking.start()
    reported: list[str] = []
    try:
        cluster.up(reported.append)
    finally:
        waking.join()
    assert "starting coordinator-1, which has exited" in reported
    assert pids(cluster)["coordinator-1"] not in (before, None)


def test_after_a_leader_is_killed_another_leads_in_a_later_term(cluster: LocalCluster) -> None:
    """After the leader is killed the others elect a new one, and it restarts as a follower."""
    before = cluster.wait_for_leader()
    cluster.kill(before.id)

    after = cluster.wait_for_leader(other_than=before)

    assert after.id != before.id
    assert after.term > before.term
    cluster.up()


def test_a_stopped_postgres_comes_back(cluster: LocalCluster) -> None:
    """PostgreSQL can be stopped, killed and started separately."""
    cluster.stop("postgres")
    cluster.start("postgres")
    cluster.kill("postgres")
    cluster.start("postgres")

    assert pids(cluster)["postgres"] is not None
    cluster.up()


def test_an_unknown_member_is_named(cluster: LocalCluster) -> None:
    """An unknown name is an error and stops nothing."""
    with pytest.raises(LocalClusterError, match="worker-9: unknown process; give one of postgres, coordinator-1"):
        cluster.kill("worker-9")


def test_two_commands_at_once_do_not_mix(cluster: LocalCluster) -> None:
    """While one command changes the cluster, another fails with a hint to wait."""
    refused: list[str] = []

    def interfere(_: str) -> None:
        if not refused:
            with pytest.raises(LocalClusterError) as caught:
                LocalCluster(cluster.layout.root).down()
            refused.append(str(caught.value))

    cluster.up(interfere)

    assert "another `zkp local` command is running" in refused[0]


def test_status_shows_processes_nodes_and_workers(cluster: LocalCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """`zkp local status --json` has processes and cluster status."""
    assert app.run(["local", "status", "--json", "--dir", str(cluster.layout.root)]) == 0

    found = json.loads(capsys.readouterr().out)
    assert [process["state"] for process in found["processes"]] == ["up"] * len(MEMBERS)
    assert [node["id"] for node in found["cluster"]["nodes"]] == list(COORDINATORS)
    assert {worker["id"] for worker in found["cluster"]["workers"]} == {"worker-1", "worker-2"}


def test_status_shows_the_processes_when_no_coordinator_answers(
    cluster: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without coordinators the other processes and their addresses are still listed."""
    for name in COORDINATORS:
        cluster.kill(name)

    assert app.run(["local", "status", "--json", "--dir", str(cluster.layout.root)]) == 1

    found = json.loads(capsys.readouterr().out)
    assert {process["name"] for process in found["processes"] if process["state"] == "down"} == {*COORDINATORS}
    assert (found["cluster"], found["problem"]) == (None, "no answer: every coordinator is down")
    cluster.up()


def test_a_slow_start_is_reported_with_its_time(cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """`up` reports the duration of a slow start, and none for processes that ran already."""
    monkeypatch.setattr("zkp.localcluster.cluster._SLOW_START_S", 0.0)
    cluster.kill("worker-1")
    said: list[str] = []

    cluster.up(said.append)

    assert [line for line in said if re.fullmatch(r"worker-1 is ready after \d+ s", line)]
    assert "gateway is ready" in said


def test_logs_are_shown_by_name(cluster: LocalCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """Every daemon's log lines are shown."""
    assert app.run(["local", "logs", "gateway", "-n", "3", "--dir", str(cluster.layout.root)]) == 0
    assert 0 < len(capsys.readouterr().out.splitlines()) <= 3

    assert app.run(["local", "logs", "--dir", str(cluster.layout.root)]) == 0
    shown = capsys.readouterr().out
    assert all(f"{name} " in shown for name in MEMBERS)


def test_a_daemon_that_dies_early_is_named_and_nothing_stays(
    tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`up` fails with the daemon's last error and stops the processes that it started."""
    monkeypatch.setenv("GATEWAY_BIND", "nonsense")
    broken = LocalCluster(tmp_path / "zkp", keys=keys)

    with pytest.raises(LocalClusterError, match=r"^gateway exited: .*GATEWAY_BIND.* \(log: .*gateway\.log\)$"):
        broken.up()

    assert not broken.running()
    assert orphans(broken.layout.root) == []


def test_down_stops_everything_and_up_goes_on_from_there(tmp_path: Path, keys: Path) -> None:
    """Tasks and proofs survive `down` and `up`; a second `down` does nothing."""
    cluster = LocalCluster(tmp_path / "zkp", keys=keys)
    where = ["--dir", str(cluster.layout.root)]
    proof = tmp_path / "proof.json"
    try:
        assert cluster.up() is True
        addresses = cluster.profile.addresses
        submitted = ["submit", "addition", "--a", "20", "--b", "22", "--task-id", "kept", "--wait", *where]
        assert app.run(submitted) == 0

        said: list[str] = []
        assert cluster.down(said.append) is True
        stopped = [line.removesuffix(" stopped") for line in said]
        assert (stopped[0], stopped[-1], sorted(stopped)) == ("gateway", "postgres", sorted(MEMBERS))
        assert cluster.down() is False
        assert not cluster.running()
        assert orphans(cluster.layout.root) == []

        assert cluster.up() is True
        assert cluster.profile.addresses == addresses
        assert app.run(["get", "kept", "--out", str(proof), *where]) == 0
    finally:
        cluster.down()
    assert json.loads(proof.read_text(encoding="utf-8"))["public_inputs"] == ["42"]
