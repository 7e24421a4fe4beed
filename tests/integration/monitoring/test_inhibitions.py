"""What follows from something known is not told: a real Alertmanager with the shipped rules, alert after alert."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pytest

from pki.ca.authority import Authority
from pki.x509.identity import Role
from tests.integration.cluster.network import eventually
from tests.integration.monitoring.alerting import Alertmanager, alertmanager
from tests.integration.monitoring.watched import Firing
from tests.unit.monitoring import shipped

Labels = Mapping[str, str]
_HERE, _THERE = {"node": "coordinator-1"}, {"node": "coordinator-2"}
_HTTPS, _GRPC = {"api": "https"}, {"api": "grpc"}


def warning(name: str, **labels: str) -> Labels:
    """An alert that makes a ticket."""
    return {"alertname": name, "severity": "warning", **labels}


def critical(name: str, **labels: str) -> Labels:
    """An alert that wakes somebody."""
    return {"alertname": name, "severity": "critical", **labels}


class Case(NamedTuple):
    """Once `source` fires, those that follow from it are silenced by it, and `others` are told all the same."""

    source: Labels
    following: list[Labels]
    others: list[Labels]


_OF_A_NODE = ("FollowerLagging", "FsyncSlow", "DiskNearlyFull", "CertificateReloadFailed", "PostgresAway")
_CASES = {
    "the critical form of an alert": Case(
        critical("DiskNearlyFull", **_HERE),
        [warning("DiskNearlyFull", **_HERE)],
        [warning("DiskNearlyFull", **_THERE)],
    ),
    "a node that is down": Case(
        warning("NodeDown", job="coordinator", **_HERE),
        [warning(name, **_HERE) for name in _OF_A_NODE],
        [critical("QuorumAtRisk"), *(warning(name, **_THERE) for name in _OF_A_NODE)],
    ),
    "no leader": Case(
        critical("NoLeader"),
        [
            critical("QuorumAtRisk"),
            critical("NoWorkerForCircuit", circuit="addition"),
            warning("RepeatedElections"),
            warning("FollowerLagging", **_HERE),
        ],
        [warning("NodeDown", job="coordinator", **_THERE), critical("NoGateway")],
    ),
    "no leader, for callers": Case(
        critical("NoLeader"),
        [
            warning("TaskStuck"),
            critical("ErrorBudgetBurning", **_GRPC),
            critical("LatencyBudgetBurning", **_GRPC),
        ],
        [warning("PostgresAway", **_HERE)],
    ),
    "no worker": Case(
        critical("NoWorkerForCircuit", circuit="addition"),
        [warning("TaskStuck"), critical("LatencyBudgetBurning", **_GRPC)],
        [warning("NodeDown", job="worker", node="worker-1")],
    ),
    "no gateway": Case(
        critical("NoGateway"),
        [critical("ErrorBudgetBurning", **_HTTPS), warning("LatencyBudgetBurning", **_HTTPS)],
        [critical("ErrorBudgetBurning", **_GRPC), warning("NodeDown", job="gateway", node="gateway")],
    ),
    "PostgreSQL away": Case(
        warning("PostgresAway", **_HERE),
        [warning("ProjectionLagging", **_HERE)],
        [critical("BacklogNearBound", backlog="events for PostgreSQL")],
    ),
    "a record that refuses": Case(
        critical("RecordRefused", **_HERE),
        [warning("ProjectionLagging", **_HERE)],
        [warning("PostgresAway", **_THERE)],
    ),
    "a record that refuses, and cannot be reached": Case(
        critical("RecordRefused", **_HERE), [warning("PostgresAway", **_HERE)], [warning("PostgresAway", **_THERE)]
    ),
    "a backlog at its bound": Case(
        critical("BacklogNearBound", backlog="pending tasks"),
        [critical("ErrorBudgetBurning", **_GRPC)],
        [critical("LatencyBudgetBurning", **_GRPC)],
    ),
    "false proofs": Case(
        critical("FalseProofs", circuit="addition"), [warning("WorkerQuarantined")], [warning("TaskStuck")]
    ),
}


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Alertmanager]:
    """An Alertmanager that knows of nothing."""
    now = datetime.now(UTC)
    issued = Authority.create("zkp.local", now=now).issue("monitor", Role.PROMETHEUS, ["127.0.0.1"], now=now)
    identity = issued.write(tmp_path / "identities").certificate.parent
    with alertmanager(tmp_path / "alertmanager", identity) as found:
        yield found


@pytest.mark.parametrize("name", _CASES)
def test_what_follows_is_silenced(told: Alertmanager, name: str) -> None:
    """All is told while the cause is unknown; afterwards the cause is, and what has nothing to do with it."""
    case = _CASES[name]
    every = [*case.following, *case.others]
    told.post(every)
    assert silenced(told) == {labels_of(labels): set() for labels in every}
    told.post([case.source])
    cause = Firing.of(case.source)
    expected: dict[tuple[Firing, str], set[Firing]] = {
        labels_of(case.source): set(),
        **{labels_of(labels): {cause} for labels in case.following},
        **{labels_of(labels): set() for labels in case.others},
    }
    # The source has reached the inhibitor once anything is silenced; what it leaves alone is settled by then.
    eventually("the first silenced alert", lambda: any(silenced(told).values()))
    assert silenced(told) == expected


def silenced(told: Alertmanager) -> dict[tuple[Firing, str], set[Firing]]:
    """(alert, severity) → what silences it."""
    return {(known.firing, known.severity): set(known.silenced_by) for known in told.alerts()}


def labels_of(labels: Labels) -> tuple[Firing, str]:
    """How `silenced` names the alert."""
    return Firing.of(labels), labels["severity"]


def test_the_cases_are_of_shipped_alerts() -> None:
    """In severities that the rules give."""
    known = {(alert.name, alert.severity) for alert in shipped.alerts()}
    every = [labels for case in _CASES.values() for labels in (case.source, *case.following, *case.others)]
    assert {(labels["alertname"], labels["severity"]) for labels in every} <= known
