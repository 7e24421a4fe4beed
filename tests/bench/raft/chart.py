"""The comparison as bars in an SVG file, without anything to draw it with. Pure: figures in, text out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_PANEL_W, _HEIGHT, _TOP, _BOTTOM, _LEFT = 620, 360, 56, 52, 16
_THEIRS, _OURS = "#9aa5b1", "#2f6f4f"
_FONT = 'font-family="system-ui, sans-serif"'


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar of a group; `value` in tasks a second."""

    value: float
    colour: str


@dataclass(frozen=True, slots=True)
class Group:
    """Bars side by side over one label."""

    label: str
    bars: Sequence[Bar]


def draw(figures: dict[str, Any]) -> str:
    """`figures` as `comparison.measure` gives them: two panels, one task a message and a hundred."""
    panels = (
        ("One task a message", _groups(figures, ("unary", "stream", "client"))),
        ("100 tasks a message", _groups(figures, ("batch",))),
    )
    width = _PANEL_W * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT}" role="img">',
        "<title>Tasks accepted a second, etcd and the coordinators</title>",
        f'<rect width="{width}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    for number, (title, groups) in enumerate(panels):
        parts += _panel(number * _PANEL_W, title, groups)
    return "\n".join([*parts, "</svg>", ""])


def _groups(figures: dict[str, Any], kinds: Sequence[str]) -> list[Group]:
    groups = []
    for name, ours in figures["coordinators"].items():
        kind, _, outstanding = name.partition(" ")
        if kind in kinds:
            theirs = figures["etcd"].get(name)
            bars = ([Bar(theirs["rate"], _THEIRS)] if theirs else []) + [Bar(ours["rate"], _OURS)]
            groups.append((kinds.index(kind), int(outstanding), Group(f"{kind} {outstanding}", bars)))
    return [group for _, _, group in sorted(groups, key=lambda entry: entry[:2])]


def _panel(left: int, title: str, groups: Sequence[Group]) -> list[str]:
    highest = max(bar.value for group in groups for bar in group.bars)
    room = _HEIGHT - _TOP - _BOTTOM
    step = (_PANEL_W - 2 * _LEFT) / len(groups)
    thick = min(44.0, step / 2.4)
    parts = [_text(left + _LEFT, 24, f"{title}: tasks accepted a second", size=15, anchor="start")]
    for number, group in enumerate(groups):
        middle = left + _LEFT + step * (number + 0.5)
        start = middle - thick * len(group.bars) / 2
        for place, bar in enumerate(group.bars):
            height = room * bar.value / highest
            x, y = start + place * thick, _TOP + room - height
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{thick - 3:.1f}" height="{height:.1f}" fill="{bar.colour}"/>'
            )
            parts.append(_text(x + (thick - 3) / 2, y - 5, f"{bar.value:,.0f}", size=10))
        parts.append(_text(middle, _HEIGHT - _BOTTOM + 18, group.label, size=12))
    for number, (name, colour) in enumerate((("etcd", _THEIRS), ("coordinators", _OURS))):
        x = left + _LEFT + 90 * number
        parts.append(f'<rect x="{x}" y="{_HEIGHT - 20}" width="10" height="10" fill="{colour}"/>')
        parts.append(_text(x + 15, _HEIGHT - 11, name, size=11, anchor="start"))
    return parts


def _text(x: float, y: float, text: str, *, size: int, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {_FONT} font-size="{size}" text-anchor="{anchor}">{text}</text>'
