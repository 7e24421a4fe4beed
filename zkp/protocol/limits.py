"""The limits of the API: one place for what client, gateway, coordinator and worker enforce or describe.

A limit is checked by the coordinator, which trusts no caller, and earlier wherever that saves a round trip. Patterns
are for `re.fullmatch`; `anchored` makes one that a JSON schema can carry.
"""

# ---------------------------------------------------------------- tasks

TASK_ID_PATTERN = r"[A-Za-z0-9._-]{1,64}"
TASK_ID_RULE = "must be 1 to 64 characters of A-Z, a-z, 0-9, '.', '_' and '-'"
MAX_RETRIES = 10
"""Of one task, on top of its first attempt."""
MAX_INPUT_BYTES = 40 * 1024
"""Of the canonical inputs of one task: a replicated command must stay well under 48 KiB."""
MAX_PUBLIC_INPUTS = 64
"""Of one task."""
MAX_SUBMISSIONS = 1_000
"""In one request."""
PAGE_SIZE = 100
"""Tasks on a page when the caller does not say."""
MAX_PAGE_SIZE = 1_000
"""Tasks on a page."""
MAX_PAGE_TOKEN_CHARACTERS = 512
PAGE_TOKEN_PATTERN = rf"[A-Za-z0-9_-]{{1,{MAX_PAGE_TOKEN_CHARACTERS}}}"
"""base64url, without padding."""

# ---------------------------------------------------------------- workers

MAX_CAPACITY = 1_024
"""Proofs that one worker makes at once."""

# ---------------------------------------------------------------- certificates

SERIAL_PATTERN = r"[1-9a-f][0-9a-f]{0,39}"
"""At most 20 octets (RFC 5280, section 4.1.2.2), hexadecimal, lower case, without leading zeros."""
MAX_CERTIFICATES = 1_000
"""Revoked by one request; revocations on a page."""

# ---------------------------------------------------------------- messages

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Of one gRPC message, both ways; a request with MAX_SUBMISSIONS typical submissions fits."""
SHA256_PATTERN = r"[0-9a-f]{64}"


def anchored(pattern: str) -> str:
    """The pattern as a JSON schema carries it, where a match anywhere in the text would be enough."""
    return f"^{pattern}$"
