"""Dashboards fit Grafana's schema, ask for what exists, and lead to the runbooks."""

import copy
import re
from typing import Any

import pytest
import yaml

from tests.unit.monitoring import shipped
from tests.unit.monitoring.dashboard_schema import problems

_SOURCES = shipped.MONITORING / "grafana" / "provisioning" / "datasources" / "prometheus.yml"
_ALERTS = {alert.name for alert in shipped.alerts()}
NAMES = sorted(shipped.dashboards())


def _datasource() -> str:
    (source,) = yaml.safe_load(_SOURCES.read_text(encoding="utf-8"))["datasources"]
    uid: str = source["uid"]
    return uid


@pytest.fixture(params=NAMES)
def dashboard(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each dashboard in turn."""
    found: dict[str, Any] = shipped.dashboards()[request.param]
    return found


def test_the_pages_that_operators_need_are_there() -> None:
    """And each has an address of its own."""
    assert NAMES == ["certificates", "consensus", "database", "overview", "tasks", "workers"]
    assert len({one["uid"] for one in shipped.dashboards().values()}) == len(NAMES)


def test_a_dashboard_fits_the_schema(dashboard: dict[str, Any]) -> None:
    """Of the version of Grafana that is named there; every query names the provisioned data source."""
    assert list(problems(dashboard, _datasource())) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("panels", 0, "fieldConfig", "defaults", "unit"), "furlongs"),
        (("panels", 0, "gridPos", "x"), 23),
        (("panels", 0, "targets", 0, "datasource", "uid"), "another"),
        (("panels", 0, "id"), "one"),
        (("panels", 1, "id"), 1),
        (("panels", 0, "descripton"), "a slip"),
        (("schemaVersion",), 7),
        (("templating", "list", 0, "type"), "guess"),
    ],
)
def test_the_schema_finds_mistakes(path: tuple[str | int, ...], value: object) -> None:
    """A check that takes everything would show nothing."""
    broken = copy.deepcopy(shipped.dashboards()["overview"])
    place: Any = broken
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert list(problems(broken, _datasource()))


def test_queries_ask_for_what_is_exported_or_recorded(dashboard: dict[str, Any]) -> None:
    """An empty panel looks like a quiet cluster."""
    known = shipped.exported() | shipped.records().keys()
    for title, expression in shipped.expressions(dashboard):
        asked = shipped.names(expression)
        assert asked <= known, title
        assert asked or "up" in expression or "ALERTS" in expression, title


def test_every_panel_says_what_it_shows(dashboard: dict[str, Any]) -> None:
    """In a sentence, for whoever looks at it for the first time."""
    for panel in shipped.panels(dashboard):
        assert panel["description"].endswith("."), panel["title"]


def test_panels_lead_to_runbooks_that_exist(dashboard: dict[str, Any]) -> None:
    """Through the variable that says where the pages are."""
    links = [link["url"] for panel in shipped.panels(dashboard) for link in panel.get("links", [])]
    assert links
    for url in links:
        found = re.fullmatch(r"\$\{runbooks\}/(\w+)\.md", url)
        assert found, url
        assert found[1] in _ALERTS, url


def test_variables_are_used(dashboard: dict[str, Any]) -> None:
    """A choice that changes nothing misleads."""
    text = " ".join(expression for _, expression in shipped.expressions(dashboard))
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            assert f"${variable['name']}" in text, (dashboard["title"], variable["name"])
