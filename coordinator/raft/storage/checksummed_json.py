"""Small JSON files with a checksum: the vote and the membership. Pure."""

import json
from typing import Any

import google_crc32c


class SealBroken(Exception):
    """The bytes are not what `seal` made."""


def seal(values: dict[str, Any]) -> bytes:
    """One line of JSON, readable by an operator, and one line with its CRC32C."""
    body = json.dumps(values).encode()
    return body + b"\n" + str(google_crc32c.value(body)).encode() + b"\n"


def unseal(data: bytes) -> dict[str, Any]:
    """The values. Raises SealBroken for anything but an intact file."""
    body, _, checksum = data.strip().rpartition(b"\n")
    try:
        if int(checksum) != google_crc32c.value(body):
            raise SealBroken
        values = json.loads(body)
    except ValueError as error:
        raise SealBroken from error
    if not isinstance(values, dict):
        raise SealBroken
    return values
