"""Times and time spans of the command line: +30d, 12h, 2026-07-01, 2026-07-01T12:00Z."""

import re
from datetime import UTC, datetime, timedelta

from pki.errors import PkiError

_SPAN = re.compile(r"(\d{1,6})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_span(text: str) -> timedelta:
    """Parse 90m, 12h, 30d or 2w; raise `PkiError` if it is malformed."""
    match = _SPAN.fullmatch(text)
    if match is None:
        raise PkiError(f"span {text!r}: write minutes, hours, days or weeks, like 30d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def parse_time(text: str, now: datetime) -> datetime:
    """Parse +30d (from `now`) or an ISO 8601 date or time, UTC by default; raise `PkiError` if it is malformed."""
    try:
        if text.startswith("+"):
            return now + parse_span(text[1:])
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (PkiError, ValueError, OverflowError):
        raise PkiError(f"time {text!r}: write it like +30d, 2026-07-01 or 2026-07-01T12:00Z") from None


def day(moment: datetime) -> str:
    """Format a time for tables, in UTC, to the minute."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def remaining(span: timedelta) -> str:
    """Format a span in its largest unit, with a minus sign if it is in the past."""
    seconds = abs(span.total_seconds())
    sign = "-" if span < timedelta() else ""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{sign}{int(seconds // size)} {unit}"
    return f"{sign}{int(seconds)} s"
