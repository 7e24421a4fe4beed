"""Idempotency keys: the same key from the same caller names the same task, at every gateway, for ever.

The task id is a digest of caller and key, so no gateway has to remember anything: sent again, the submission
meets the task that it made, and the coordinators compare the two. Different callers cannot meet, whatever
keys they choose.
"""

import hashlib
import re
import secrets
from collections.abc import Sequence

from gateway.problems import INVALID_HEADER, ApiProblem

HEADER = "Idempotency-Key"
KEY_PATTERN = r"[!-~]{1,255}"

_KEY = re.compile(KEY_PATTERN)
_ID_BYTES = 16  # 128 bits: ids are never guessed, and never meet
_DOMAIN = b"zkp-gateway-task-v1"


def read_key(values: Sequence[str]) -> str | None:
    """The key among a request's headers of that name, None without one; raises a `ApiProblem`."""
    if not values:
        return None
    if len(values) > 1:
        raise ApiProblem(INVALID_HEADER, f"{HEADER}: is there {len(values)} times; send it once", HEADER)
    if _KEY.fullmatch(values[0]) is None:
        cure = "use 1 to 255 printable ASCII characters without blanks, such as a UUID"
        raise ApiProblem(INVALID_HEADER, f"{HEADER}: cannot be used; {cure}", HEADER)
    return values[0]


def new_task_id(caller: str, key: str | None) -> str:
    """The id for a submission: of caller and key where there is a key, otherwise random. 32 hex digits.

    Ids of guessable keys can be computed by others; they are names, not secrets.
    """
    if key is None:
        return secrets.token_hex(_ID_BYTES)
    digest = hashlib.sha256(_DOMAIN)
    for part in (caller.encode(), key.encode()):
        digest.update(len(part).to_bytes(4, "big"))
        digest.update(part)
    return digest.digest()[:_ID_BYTES].hex()
