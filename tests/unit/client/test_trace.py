"""A task's timeline from logs, journals and the task's own times."""

import json
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from zkp.cli import trace
from zkp.client.model import Task, TaskError, TaskState
from zkp.client.trace import CLUSTER, TraceEvent, events_from_journal, events_from_log, events_from_task

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def line(**fields: object) -> str:
    return json.dumps({"ts": "2026-11-23T12:00:00.250000Z", "level": "info", "logger": "zkp.worker", **fields})


def test_a_log_tells_of_one_task_alone() -> None:
    """Lines of other tasks, including ids with the same prefix, and lines that are not JSON are skipped."""
    lines = [
        line(message="task proved", task_id="t-1", attempt=2),
        line(message="task proved", task_id="t-10"),
        line(message="nothing of t-1"),
        "t-1 Traceback (most recent call last):",
        '["t-1"]',
        "t-1".join(["[" * 100_000, "]"]),
        line(message="no time", task_id="t-1", ts="yesterday"),
    ]
    (found,) = events_from_log("worker-1", lines, "t-1")
    assert (found.at, found.node, found.message) == (NOON + timedelta(milliseconds=250), "worker-1", "task proved")
    assert found.fields == {"attempt": 2}


def test_a_line_says_itself_who_wrote_it() -> None:
    """A file may contain the logs of several nodes."""
    (found,) = events_from_log("all", [line(message="task proved", task_id="t-1", node_id="worker-7")], "t-1")
    assert found.node == "worker-7"


def test_a_journal_is_read_as_journalctl_prints_it() -> None:
    """Times are in microseconds, levels in PRIORITY, field names in upper case."""
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
    (found,) = events_from_journal("c2.example", lines, "t-1")
    assert (found.at, found.node) == (NOON + timedelta(milliseconds=250), "coordinator-2")
    assert (found.level, found.message, found.fields) == ("warning", "task failed", {"term": 7})


def test_the_clusters_own_times_join() -> None:
    """Times that are not set are left out; a failure has its reason."""
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
    found = list(events_from_task(task))
    messages = ["accepted, addition", "assigned", "failed, timeout: no result within 600 s"]
    assert [event.message for event in found] == messages
    assert {event.node for event in found} == {CLUSTER}
    assert found[1].fields == {"attempt": 2, "worker_id": "worker-1"}


def test_a_timeline_is_in_order() -> None:
    """Events are sorted by time across nodes."""
    late = TraceEvent(NOON + timedelta(seconds=1), "a", "info", "second")
    early = TraceEvent(NOON, "b", "info", "first")
    assert sorted([late, early]) == [early, late]


def test_missing_journal_permissions_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """journalctl then prints a hint and no lines, and exits with 0."""
    hint = (
        "Hint: You are currently not seeing messages from other users and the system.\n"
        "      Users in groups 'adm', 'systemd-journal' can see all messages.\n"
    )
    nothing = subprocess.CompletedProcess((), 0, stdout="-- No entries --\n", stderr=hint)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: nothing)
    events, unreached = trace._from_hosts(["host-1"], "t1")
    assert events == []
    assert unreached == ["host-1: the user may not read the journal; add it to the group systemd-journal"]
