"""Idempotency keys: the same key from the same caller always names the same task, at every gateway.

The task id is a digest of caller and key, so gateways store nothing: a repeated submission has the id of the existing
task, and the coordinators compare the two. Keys of different callers never collide.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence

from gateway.problems import INVALID_HEADER, ApiProblem

HEADER = "Idempotency-Key"
KEY_PATTERN = r"[!-~]{1,255}"

_KEY = re.compile(KEY_PATTERN)
_ID_BYTES = 16  # 128 bits: ids cannot be guessed and do not collide
_DOMAIN = b"zkp-gateway-task-v1"


def read_key(values: Sequence[str]) -> str | None:
    """Return the idempotency key, None without one.

    Args:
        values: Values of the request's Idempotency-Key headers.

    Raises:
        ApiProblem: The header is repeated or malformed.
    """
    if not values:
        return None
    if len(values) > 1:
        raise ApiProblem(INVALID_HEADER, f"{HEADER}: appears {len(values)} times; send it once", HEADER)
    if _KEY.fullmatch(values[0]) is None:
        hint = "use 1–255 printable ASCII characters without spaces, such as a UUID"
        raise ApiProblem(INVALID_HEADER, f"{HEADER}: malformed; {hint}", HEADER)
    return values[0]


def new_task_id(caller: str, key: str | None) -> str:
    """Return a task id of 32 hex digits: derived from caller and key if there is a key, otherwise random.

    Ids of guessable keys can be computed by others; ids are names, not secrets.
    """
    if key is None:
        return secrets.token_hex(_ID_BYTES)
    digest = hashlib.sha256(_DOMAIN)
    for part in (caller.encode(), key.encode()):
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()[:_ID_BYTES].hex()
