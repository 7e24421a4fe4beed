"""Page tokens of listings: an opaque encoding of the end of the last page.

A token contains a time stamp, an id and a hash of the listing's filters: no secret, and nothing that gives its holder
access to more tasks.
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
    """A position in the order of tasks, newest first: after the task with this id and creation time (ms)."""

    created_ms: int
    task_id: str


def encode_token(cursor: Cursor, filters: tuple[str, ...]) -> str:
    """Return the token of the page after `cursor`, valid for the same filters only."""
    text = json.dumps([_filter_hash(filters), cursor.created_ms, cursor.task_id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_token(token: str, filters: tuple[str, ...]) -> Cursor:
    """Return the cursor of a token.

    Raises:
        PageTokenError: `encode_token` did not make the token, or made it for other filters.
    """
    filter_hash, created_ms, task_id = _parts(token)
    if filter_hash != _filter_hash(filters):
        raise PageTokenError(
            "page_token: belongs to a listing with other filters; omit it to start at the first page"
        )
    return Cursor(created_ms, task_id)


def _parts(token: str) -> tuple[str, int, str]:
    match _unpacked(token):
        case [str(filter_hash), int(created_ms), str(task_id)] if _plausible(created_ms, task_id):
            return filter_hash, created_ms, task_id
    raise PageTokenError("page_token: invalid; omit it to list from the start")


def _unpacked(token: str) -> object:
    if len(token) > MAX_PAGE_TOKEN_CHARACTERS:
        return None
    try:
        return json.loads(base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True))
    except (ValueError, RecursionError):  # from base64, UTF-8 or JSON
        return None


def _plausible(created_ms: int, task_id: str) -> bool:
    """Return whether the values are valid in a query; `True` and `False` are ints in Python."""
    return type(created_ms) is int and 0 <= created_ms <= _MAX_MS and sanitize_text(task_id) == task_id


def _filter_hash(filters: tuple[str, ...]) -> str:
    return hashlib.sha256(json.dumps(filters).encode()).hexdigest()[:16]
