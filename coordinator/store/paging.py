"""The page token of listings: where the last page ended, in a form that callers hand back as it is.

It holds a time stamp, an id and a mark of the filters it was made under: no secret, and nothing that could
widen what its holder may list.
"""

import base64
import hashlib
import json
from dataclasses import dataclass

from coordinator.store.batch import sanitize_text
from coordinator.store.errors import PageTokenError
from zkp.protocol.limits import MAX_PAGE_TOKEN_CHARACTERS

_MAX_MS = 253_402_300_799_999  # the last millisecond of the year 9999


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the order of tasks, newest first: after the one with this id and creation time in ms."""

    created_ms: int
    task_id: str


def encode_token(place: Cursor, filters: tuple[str, ...]) -> str:
    """The token of the page after `place`, good for the same filters only."""
    text = json.dumps([_mark(filters), place.created_ms, place.task_id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_token(token: str, filters: tuple[str, ...]) -> Cursor:
    """The place that a token names. Raises PageTokenError for whatever `encode_token` did not make."""
    mark, created_ms, task_id = _parts(token)
    if mark != _mark(filters):
        raise PageTokenError("page_token: belongs to a listing with other filters; start without one")
    return Cursor(created_ms, task_id)


def _parts(token: str) -> tuple[str, int, str]:
    match _unpacked(token):
        case [str(mark), int(created_ms), str(task_id)] if _plausible(created_ms, task_id):
            return mark, created_ms, task_id
    raise PageTokenError("page_token: is not one that a listing gave; start without one")


def _unpacked(token: str) -> object:
    if len(token) > MAX_PAGE_TOKEN_CHARACTERS:
        return None
    try:
        return json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
    except (ValueError, RecursionError):  # of base64, UTF-8 and JSON alike
        return None


def _plausible(created_ms: int, task_id: str) -> bool:
    """Whether PostgreSQL can be asked about it; `True` and `False` count as int in Python."""
    return type(created_ms) is int and 0 <= created_ms <= _MAX_MS and sanitize_text(task_id) == task_id


def _mark(filters: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps(filters).encode()).hexdigest()[:16]
