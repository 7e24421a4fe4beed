"""docs/json.md names the members that the JSON outputs have, all of them and no other."""

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from tests.unit.gateway.sample_tasks import COMPLETED
from zkp.cli import revocations, status, task_output
from zkp.client import task_json
from zkp.client.admin import ClusterStatus, Node, Revocation, Worker
from zkp.daemon.health import MemberStatus, Status
from zkp.daemon.problems import INTERNAL
from zkp.localcluster.prometheus import Target
from zkp.proofs.keys import KeyRecord

PAGE = (Path(__file__).parents[3] / "docs" / "json.md").read_text(encoding="utf-8")
NODE = Node("coordinator-1", "leader", "r:7000", "g:9090")
WORKER = Worker("worker-1", "online", 1, 0, (), datetime(2026, 11, 23, tzinfo=UTC), "1")
CLUSTER = ClusterStatus("coordinator-1", 1, (NODE,), (WORKER,), {}, "ok", 0)
FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def table(heading: str) -> list[str]:
    """The members in the first column of the table below a heading."""
    section = PAGE.split(f"{heading}\n", 1)[1].split("\n#", 1)[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def row(first: str) -> list[str]:
    """The names in the second column of a row."""
    line = next(line for line in PAGE.splitlines() if line.startswith(f"| {first}"))
    return re.findall(r"`([a-z_0-9]+)`", line.split("|")[2].split(";")[0])


def test_members_of_tasks_are_documented() -> None:
    """In the order of the output."""
    assert table("### A task") == list(task_output.to_json(COMPLETED))


def test_members_of_the_cluster_are_documented() -> None:
    """And those of its nodes and workers."""
    assert table("### The cluster") == list(status.to_json(CLUSTER))
    assert row("`nodes`") == list(asdict(NODE))
    assert row("`workers`") == list(asdict(WORKER))


def test_members_of_the_other_lists_are_documented() -> None:
    """Keys, targets and revocations."""
    assert row("`zkp circuits list`") == list(KeyRecord.model_fields)
    assert row("`zkp local monitor`") == list(asdict(Target("", "", "", "", "")))
    assert row("`zkp admin revoked`") == list(asdict(Revocation("a1", "", "", None, None)))


def test_the_shape_of_health_and_of_errors_is_documented() -> None:
    """The members that every daemon's answer begins with."""
    member = MemberStatus("worker", "worker-1", "1")
    _, health = member.health(Status.OK)
    _, ready = member.ready(True)
    assert table("## /health and /ready") == list(health)
    assert set(ready) == {*health, "ready"}
    assert table("## Errors over HTTPS") == list(INTERNAL.document("detail"))


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30))])
def test_all_outputs_write_times_in_one_form(zone: timezone) -> None:
    """RFC 3339 in UTC with milliseconds, whatever zone the time came in."""
    moment = datetime(2026, 11, 23, 14, 7, 24, 123999, tzinfo=zone)
    written = [
        task_json.timestamp(moment),
        revocations._to_json(Revocation("a1", "", "", moment, moment))["revoked_at"],
        status.to_json(CLUSTER)["workers"][0]["last_heartbeat"],  # type: ignore[index]
    ]
    assert all(isinstance(text, str) and FORM.fullmatch(text) for text in written)
    assert datetime.fromisoformat(str(written[0])) == moment.replace(microsecond=123000)


@pytest.mark.parametrize(("state", "ok"), [(Status.OK, True), (Status.DEGRADED, True), (Status.UNAVAILABLE, False)])
def test_only_unavailable_is_a_503(state: Status, ok: bool) -> None:
    """A degraded daemon still serves."""
    assert MemberStatus("gateway", "gateway-1", "1").health(state)[0] is ok
