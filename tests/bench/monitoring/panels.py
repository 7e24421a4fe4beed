"""Draws a dashboard as an SVG picture, from its own JSON and a Prometheus: what Grafana would show, plainly.

Stat panels as their last value, time series as lines; units and places as the dashboard has them.
"""

import html
import math
from collections.abc import Callable, Sequence
from typing import Any

Query = Callable[[str], list[tuple[dict[str, str], list[tuple[float, float]]]]]
"""expression → (labels, [(time, value)]) of each series over the picture's span."""

_COLUMN, _ROW, _GAP = 42, 30, 6
_WIDTH = 24 * _COLUMN
_TITLE, _LEGEND, _AXIS = 22, 18, 52
_INK, _FAINT, _GRID, _PAPER, _PANEL = "#1f2430", "#6b7280", "#e3e6ec", "#f4f5f7", "#ffffff"
_LINES = ("#3b78c2", "#d9822b", "#3a9d5d", "#b5483f", "#7a5bb5", "#238a8a")
_COLOURS = {"green": "#2f8f4e", "orange": "#c77514", "red": "#c0392b"}


def picture(dashboard: dict[str, Any], query: Query, caption: str) -> str:
    """The whole dashboard as SVG text."""
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"]) * _ROW + 34
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{_WIDTH}" height="{height}" fill="{_PAPER}"/>',
    ]
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            parts += _panel(panel, query)
    parts += [_text(_GAP, height - 12, caption, 11, _FAINT), "</svg>"]
    return "\n".join(parts) + "\n"


def _panel(panel: dict[str, Any], query: Query) -> list[str]:
    grid = panel["gridPos"]
    x, y = grid["x"] * _COLUMN + _GAP / 2, grid["y"] * _ROW + _GAP / 2
    width, height = grid["w"] * _COLUMN - _GAP, grid["h"] * _ROW - _GAP
    series = [
        (_legend(target.get("legendFormat", ""), labels), points)
        for target in panel["targets"]
        for labels, points in query(target["expr"])
    ]
    parts = [
        f'<g transform="translate({x:g} {y:g})">',
        f'<rect width="{width}" height="{height}" rx="4" fill="{_PANEL}" stroke="{_GRID}"/>',
        _text(8, 16, panel["title"], 12, _INK),
    ]
    draw = _stat if panel["type"] == "stat" else _chart
    return [*parts, *draw(panel, series, width, height), "</g>"]


def _stat(panel: dict[str, Any], series: Sequence[tuple[str, Any]], width: float, height: float) -> list[str]:
    defaults = panel["fieldConfig"]["defaults"]
    # One whose series has ended before the picture does shows what is, and not what was.
    end = max((points[-1][0] for _, points in series), default=0.0)
    current = [(name, points[-1][1]) for name, points in series if points[-1][0] == end]
    if not current:
        return [_text(width / 2, height / 2 + 16, "no data", 18, _FAINT, "middle")]
    name, value = current[0]
    words = name if panel["options"]["textMode"] == "name" else _mapped(defaults, value)
    colour = next(
        step["color"] for step in reversed(defaults["thresholds"]["steps"]) if (step["value"] or -1e99) <= value
    )
    return [_text(width / 2, height / 2 + 16, words, 20, _COLOURS[colour], "middle")]


def _mapped(defaults: dict[str, Any], value: float) -> str:
    for mapping in defaults["mappings"]:
        if f"{value:g}" in mapping["options"]:
            return str(mapping["options"][f"{value:g}"]["text"])
    return _number(value, defaults["unit"])


def _chart(panel: dict[str, Any], series: Sequence[tuple[str, Any]], width: float, height: float) -> list[str]:
    unit = panel["fieldConfig"]["defaults"]["unit"]
    times = [time for _, points in series for time, _ in points]
    if not times:
        return [_text(width / 2, height / 2, "no data", 14, _FAINT, "middle")]
    first, last = min(times), max(times)
    top = _nice(max(value for _, points in series for _, value in points))
    left, bottom, up = _AXIS, height - _LEGEND - 8, _TITLE + 6

    def place(time: float, value: float) -> str:
        x = left + (time - first) / max(last - first, 1) * (width - left - 10)
        return f"{x:.0f},{bottom - value / top * (bottom - up):.1f}"

    parts = []
    for share in (0, 0.5, 1):
        level = bottom - share * (bottom - up)
        parts.append(f'<path d="M{left} {level:.1f}H{width - 10}" stroke="{_GRID}"/>')
        parts.append(_text(left - 6, level + 4, _number(share * top, unit), 10, _FAINT, "end"))
    legend_at = float(left)
    for number, (name, points) in enumerate(series):
        colour = _LINES[number % len(_LINES)]
        line = " ".join(place(time, value) for time, value in points)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        parts.append(f'<rect x="{legend_at:.0f}" y="{height - 15}" width="9" height="3" fill="{colour}"/>')
        parts.append(_text(legend_at + 13, height - 10, name, 10, _FAINT))
        legend_at += 26 + 6 * len(name)
    return parts


def _legend(template: str, labels: dict[str, str]) -> str:
    for key, value in labels.items():
        template = template.replace("{{" + key + "}}", value)
    return template


def _nice(value: float) -> float:
    """The next of 1, 2, 5 × a power of ten."""
    if value <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(value))
    return float(next(step * power for step in (1, 2, 5, 10) if step * power >= value))


def _number(value: float, unit: str) -> str:
    match unit:
        case "s" if value >= 172_800:
            return f"{value / 86_400:.0f} days"
        case "s" if value < 1:
            return f"{value * 1000:g} ms"
        case "s":
            return f"{value:g} s"
        case "percentunit":
            return f"{value * 100:g} %"
        case "ops":
            return f"{value:g}/s"
    return f"{value:g}"


def _text(x: float, y: float, words: str, size: int, colour: str, anchor: str = "start") -> str:  # noqa: PLR0917 - as SVG has them
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}">'
        f"{html.escape(words)}</text>"
    )
