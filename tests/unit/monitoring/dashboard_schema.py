"""The dashboard schema of Grafana 11 (schemaVersion 39), as far as these dashboards use it, written as checks.

Stricter than Grafana, which ignores what it does not know: a key with a typing mistake would do nothing, silently.
"""

from collections.abc import Iterator, Mapping
from typing import Any

SCHEMA_VERSION = 39
UNITS = frozenset({"short", "s", "bytes", "percentunit", "ops"})
COLUMNS = 24

_TEXT, _NUMBER, _FLAG, _LIST, _MAP = str, (int, float), bool, list, dict
_Keys = Mapping[str, Any]

_DASHBOARD: _Keys = {
    **dict.fromkeys(("uid", "title", "description", "timezone", "refresh"), _TEXT),
    **dict.fromkeys(("tags", "links", "panels"), _LIST),
    **dict.fromkeys(("time", "timepicker", "annotations", "templating"), _MAP),
    "schemaVersion": int,
    "version": int,
    "editable": _FLAG,
    "graphTooltip": int,
}
_PANEL: _Keys = {
    "id": int,
    "type": _TEXT,
    "title": _TEXT,
    "description": _TEXT,
    "datasource": _MAP,
    "gridPos": _MAP,
    "targets": _LIST,
    "options": _MAP,
    "fieldConfig": _MAP,
}
_PANEL_MAY: _Keys = {"links": _LIST, "transformations": _LIST}
_TARGET: _Keys = {"refId": _TEXT, "datasource": _MAP, "expr": _TEXT}
_TARGET_MAY: _Keys = {"legendFormat": _TEXT, "instant": _FLAG, "range": _FLAG, "format": _TEXT}
_DEFAULTS: _Keys = {"unit": _TEXT, "thresholds": _MAP, "mappings": _LIST, "color": _MAP}
_DEFAULTS_MAY: _Keys = {"min": _NUMBER, "custom": _MAP}
_GRID: _Keys = {"x": int, "y": int, "w": int, "h": int}
_LINK: _Keys = {"title": _TEXT, "url": _TEXT, "targetBlank": _FLAG}
_OPTIONS: Mapping[str, frozenset[str]] = {
    "stat": frozenset({"colorMode", "graphMode", "justifyMode", "textMode", "orientation", "reduceOptions"}),
    "timeseries": frozenset({"legend", "tooltip"}),
    "table": frozenset({"showHeader", "cellHeight"}),
}
_VARIABLES: Mapping[str, frozenset[str]] = {
    "query": frozenset(
        {"name", "label", "type", "datasource", "query", "definition", "refresh", "sort", "multi", "includeAll"}
        | {"allValue", "current", "hide"}
    ),
    "constant": frozenset({"name", "label", "type", "query", "current", "hide"}),
}


def problems(dashboard: dict[str, Any], datasource: str) -> Iterator[str]:
    """What Grafana would not take, or not understand. datasource: the uid that every query must name."""
    yield from _keys("dashboard", dashboard, _DASHBOARD)
    if dashboard["schemaVersion"] != SCHEMA_VERSION:
        yield f"schemaVersion: {dashboard['schemaVersion']}"
    for variable in dashboard["templating"]["list"]:
        if variable.keys() != _VARIABLES.get(variable["type"], frozenset()):
            yield f"variable {variable['name']}: {sorted(variable)}"
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(set(ids)) != len(ids):
        yield f"ids: {ids}"
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        where = f"panel {panel['title']}"
        yield from _place(where, panel["gridPos"], taken)
        if panel["type"] != "row":
            yield from _panel(where, panel, datasource)


def _panel(where: str, panel: dict[str, Any], datasource: str) -> Iterator[str]:
    yield from _keys(where, panel, _PANEL, _PANEL_MAY)
    if panel["options"].keys() != _OPTIONS.get(panel["type"], frozenset()):
        yield f"{where}: options of a {panel['type']}: {sorted(panel['options'])}"
    for link in panel.get("links", []):
        yield from _keys(f"{where}: link", link, _LINK)
    for target in panel["targets"]:
        yield from _keys(f"{where}: target", target, _TARGET, _TARGET_MAY)
    references = [target["refId"] for target in panel["targets"]]
    if not references or len(set(references)) != len(references):
        yield f"{where}: refIds {references}"
    if {place["datasource"]["uid"] for place in (panel, *panel["targets"])} != {datasource}:
        yield f"{where}: another data source"
    yield from _defaults(where, panel["fieldConfig"]["defaults"])


def _defaults(where: str, defaults: dict[str, Any]) -> Iterator[str]:
    yield from _keys(f"{where}: defaults", defaults, _DEFAULTS, _DEFAULTS_MAY)
    if defaults["unit"] not in UNITS:
        yield f"{where}: unit {defaults['unit']}"
    steps = [step["value"] for step in defaults["thresholds"]["steps"]]
    if not steps or steps[0] is not None or sorted(steps[1:]) != steps[1:]:
        yield f"{where}: thresholds {steps}"


def _place(where: str, grid: dict[str, Any], taken: set[tuple[int, int]]) -> Iterator[str]:
    yield from _keys(f"{where}: gridPos", grid, _GRID)
    cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
    if grid["x"] + grid["w"] > COLUMNS or cells & taken:
        yield f"{where}: lies over another, or outside"
    taken |= cells


def _keys(where: str, found: dict[str, Any], must: _Keys, may: _Keys | None = None) -> Iterator[str]:
    allowed = {**must, **(may or {})}
    yield from (f"{where}: {key} is missing" for key in must.keys() - found.keys())
    yield from (f"{where}: {key} is unknown" for key in found.keys() - allowed.keys())
    for key in found.keys() & allowed.keys():
        if not isinstance(found[key], allowed[key]):
            yield f"{where}: {key} is a {type(found[key]).__name__}"
