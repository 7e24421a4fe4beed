"""Points in time and spans as operators write them: +30d, 12h, 2026-07-01, 2026-07-01T12:00Z."""

import re
from datetime import UTC, datetime, timedelta

from pki.errors import PkiError

_SPAN = re.compile(r"(\d{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_span(text: str) -> timedelta:
    """Read 90m, 12h, 30d or 2w; raises `PkiError`."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise PkiError(f"span {text!r}: write minutes, hours, days or weeks, like 30d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def parse_moment(text: str, now: datetime) -> datetime:
    """Read +30d (from `now`) or a date with or without a time, in UTC unless it says otherwise; raises `PkiError`."""
    try:
        if text.startswith("+"):
            return now + parse_span(text[1:])
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (PkiError, ValueError, OverflowError):
        raise PkiError(f"time {text!r}: write it like +30d, 2026-07-01 or 2026-07-01T12:00Z") from None


def day(moment: datetime) -> str:
    """As tables show it, in UTC."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def remaining(span: timedelta) -> str:
    """How long that is, in its largest unit; what is over begins with a minus."""
    seconds = abs(span.total_seconds())
    sign = "-" if span < timedelta() else ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{sign}{int(seconds // size)} {unit}"
    return f"{sign}{int(seconds)} s"
