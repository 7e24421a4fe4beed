"""What monitoring/ holds, read for tests: rules, rule tests, dashboards, and the metrics that the daemons name."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "monitoring"
RUNBOOKS = ROOT / "docs" / "runbooks"
DAEMONS = ("coordinator", "gateway", "worker", "zkp")
_SAMPLES = ("", "_total", "_bucket", "_count", "_sum")
_STRINGS = re.compile(r'"[^"]*"')
_NAME = re.compile(r"\b((?:zkp|process)[_:][a-z0-9_:]+)")
_DECLARED = re.compile(r'"(zkp_[a-z0-9_]+)"')
_PROCESS = frozenset({"process_cpu_seconds", "process_resident_memory_bytes", "process_start_time_seconds"})


@dataclass(frozen=True)
class Alert:
    """One alerting rule."""

    name: str
    severity: str
    expr: str
    labels: dict[str, str]
    annotations: dict[str, str]


def documents(folder: str) -> Iterator[tuple[Path, Any]]:
    """Each YAML file of a folder below monitoring/, with what it holds."""
    for path in sorted((MONITORING / folder).glob("*.yml")):
        yield path, yaml.safe_load(path.read_text(encoding="utf-8"))


@cache
def alerts() -> tuple[Alert, ...]:
    """Every alerting rule."""
    groups = [group for _, file in documents("prometheus/alerts") for group in file["groups"]]
    rules = [rule for group in groups for rule in group["rules"]]
    return tuple(
        Alert(rule["alert"], rule["labels"]["severity"], rule["expr"], rule["labels"], rule["annotations"])
        for rule in rules
    )


@cache
def records() -> dict[str, list[str]]:
    """What is recorded → the expressions that it is recorded from."""
    found: dict[str, list[str]] = {}
    for _, file in documents("prometheus/recording"):
        for group in file["groups"]:
            for rule in group["rules"]:
                found.setdefault(rule["record"], []).append(rule["expr"])
    return found


@cache
def dashboards() -> dict[str, dict[str, Any]]:
    """File name → dashboard."""
    folder = MONITORING / "grafana" / "dashboards"
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def panels(dashboard: dict[str, Any]) -> list[dict[str, Any]]:
    """Every panel that shows something."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def expressions(dashboard: dict[str, Any]) -> list[tuple[str, str]]:
    """(panel's title, expression) of every query."""
    return [(panel["title"], target["expr"]) for panel in panels(dashboard) for target in panel["targets"]]


def names(expression: str) -> set[str]:
    """The metrics that a PromQL expression asks for."""
    return set(_NAME.findall(_STRINGS.sub('""', expression)))


@cache
def exported() -> frozenset[str]:
    """The names of samples that the daemons' source can export, by the literals in it."""
    source = [path.read_text(encoding="utf-8") for room in DAEMONS for path in (ROOT / room).rglob("*.py")]
    declared = {name for text in source for name in _DECLARED.findall(text)} | _PROCESS
    return frozenset(name + suffix for name in declared for suffix in _SAMPLES)
