"""A task's timeline from logs, journals and the task's own times."""

import json
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from zkp.cli import trace
from zkp.client.model import Task, TaskError, TaskState
from zkp.client.trace import CLUSTER, Moment, of_journal, of_log, of_task

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def line(**fields: object) -> str:
    return json.dumps({"ts": "2026-11-23T12:00:00.250000Z", "level": "info", "logger": "zkp.worker", **fields})


def test_a_log_tells_of_one_task_alone() -> None:
    """Lines of other tasks, also of ones whose id begins alike, and lines that are no JSON are passed over."""
    lines = [
        line(message="task proved", task_id="t-1", attempt=2),
        line(message="task proved", task_id="t-10"),
        line(message="nothing of t-1"),
        "t-1 Traceback (most recent call last):",
        '["t-1"]',
        "t-1".join(["[" * 100_000, "]"]),
        line(message="no time", task_id="t-1", ts="yesterday"),
    ]
    (found,) = of_log("worker-1", lines, "t-1")
    assert (found.at, found.node, found.words) == (NOON + timedelta(milliseconds=250), "worker-1", "task proved")
    assert found.fields == {"attempt": 2}


def test_a_line_says_itself_who_wrote_it() -> None:
    """So that the logs of many nodes can lie in one file."""
    (found,) = of_log("all", [line(message="task proved", task_id="t-1", node_id="worker-7")], "t-1")
    assert found.node == "worker-7"


def test_a_journal_is_read_as_journalctl_prints_it() -> None:
    """Times in microseconds, levels as PRIORITY, fields in capitals."""
    record = {
        "__REALTIME_TIMESTAMP": str(round(NOON.timestamp() * 1e6) + 250_000),
        "MESSAGE": "task failed",
        "PRIORITY": "4",
        "ZKP_TASK_ID": "t-1",
        "ZKP_NODE_ID": "coordinator-2",
        "ZKP_TERM": "7",
        "_HOSTNAME": "c2",
    }
    lines = [json.dumps(record), json.dumps({**record, "ZKP_TASK_ID": "t-2"}), ""]
    (found,) = of_journal("c2.example", lines, "t-1")
    assert (found.at, found.node) == (NOON + timedelta(milliseconds=250), "coordinator-2")
    assert (found.level, found.words, found.fields) == ("warning", "task failed", {"term": 7})


def test_the_clusters_own_times_join() -> None:
    """What has not happened is left out; how it ended is said with its reason."""
    task = Task(
        id="t-1",
        circuit="addition",
        state=TaskState.FAILED,
        attempt=2,
        retries=1,
        max_retries=1,
        worker_id="worker-1",
        public_inputs=("42",),
        proof=None,
        verifying_key_sha256="ab" * 32,
        error=TaskError("timeout", "no result within 600 s"),
        created_at=NOON,
        assigned_at=NOON + timedelta(seconds=1),
        started_at=None,
        finished_at=NOON + timedelta(seconds=9),
        revision=9,
    )
    found = list(of_task(task))
    words = ["accepted, addition", "assigned", "failed, timeout: no result within 600 s"]
    assert [moment.words for moment in found] == words
    assert {moment.node for moment in found} == {CLUSTER}
    assert found[1].fields == {"attempt": 2, "worker_id": "worker-1"}


def test_a_timeline_is_in_order() -> None:
    """By time first, whoever says it."""
    late = Moment(NOON + timedelta(seconds=1), "a", "info", "second")
    early = Moment(NOON, "b", "info", "first")
    assert sorted([late, early]) == [early, late]


def test_a_user_who_may_not_read_the_journal_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """journalctl shows nothing then, gives a hint and succeeds, as if nobody had heard of the task."""
    hint = (
        "Hint: You are currently not seeing messages from other users and the system.\n"
        "      Users in groups 'adm', 'systemd-journal' can see all messages.\n"
    )
    nothing = subprocess.CompletedProcess((), 0, stdout="-- No entries --\n", stderr=hint)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: nothing)
    moments, unreached = trace._from_hosts(["host-1"], "t1")
    assert moments == []
    assert unreached == ["host-1: its user may not read the journal: put it into the group systemd-journal"]
