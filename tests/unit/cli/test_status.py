"""Output of the cluster's status as tables and as JSON."""

import json
from datetime import UTC, datetime

import pytest

from zkp.cli import status
from zkp.client.admin import ClusterStatus, Node, Worker

FOUND = ClusterStatus(
    leader="coordinator-2",
    term=3,
    nodes=(
        Node("coordinator-1", "unreachable", "127.0.0.1:17001", "127.0.0.1:17011", problem="connection refused"),
        Node("coordinator-2", "leader", "127.0.0.1:17002", "127.0.0.1:17012", term=3, last_applied=12),
    ),
    workers=(
        Worker("worker-1", "online", 1, 1, ("addition",), datetime(2026, 11, 23, tzinfo=UTC), "0.1.0"),
        Worker("worker-2", "offline", 1, 0, (), None, "0.1.0"),
    ),
    tasks={"completed": 34},
    database="degraded",
    projection_backlog=7,
    database_reason="connection refused",
)


def test_the_tables_show_who_leads_who_is_down_and_what_lags(capsys: pytest.CaptureFixture[str]) -> None:
    """Tables show unreachable nodes, offline workers and the state of the database."""
    status.show(FOUND)

    lines = capsys.readouterr().out.splitlines()
    assert "coordinator-1  unreachable  -     127.0.0.1:17001  127.0.0.1:17011  -        connection refused" in lines
    assert "coordinator-2  leader       3     127.0.0.1:17002  127.0.0.1:17012  12       -" in lines
    assert "completed    34" in lines
    assert "failed       0" in lines
    assert "Database: degraded, 7 revisions behind: connection refused" in lines


def test_json_is_the_same_for_programs() -> None:
    """The status is serializable as JSON, with times in RFC 3339."""
    document = json.loads(json.dumps(status.to_json(FOUND)))

    assert document["leader"] == "coordinator-2"
    assert (document["database"], document["database_reason"]) == ("degraded", "connection refused")
    assert [node["role"] for node in document["nodes"]] == ["unreachable", "leader"]
    assert [worker["last_heartbeat"] for worker in document["workers"]] == ["2026-11-23T00:00:00.000Z", None]
