"""Small JSON files with a checksum: the vote and the membership. Pure."""

import json
from typing import Any

import google_crc32c


class ChecksumError(Exception):
    """The bytes are not what `dump` made."""


def dump(values: dict[str, Any]) -> bytes:
    """One line of JSON, readable by an operator, and one line with its CRC32C."""
    body = json.dumps(values).encode()
    return body + b"\n" + str(google_crc32c.value(body)).encode() + b"\n"


def load(data: bytes) -> dict[str, Any]:
    """The values. Raises ChecksumError for anything but an intact file."""
    body, _, checksum = data.strip().rpartition(b"\n")
    try:
        if int(checksum) != google_crc32c.value(body):
            raise ChecksumError
        values = json.loads(body)
    except ValueError as error:
        raise ChecksumError from error
    if not isinstance(values, dict):
        raise ChecksumError
    return values
