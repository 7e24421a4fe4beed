"""Input files named by the user: UTF-8 text or strict JSON, of limited size."""

import sys
from pathlib import Path

from zkp.cli.errors import CommandFailed
from zkp.proofs import strict_json

STANDARD_INPUT = Path("-")
_MAX_BYTES = 16 * 2**20  # a list of 65,536 field elements, the most that a request may have, takes 5 MiB


def label(path: Path) -> str:
    """Return the file's name in errors."""
    return "standard input" if path == STANDARD_INPUT else str(path)


def read_text(path: Path) -> str:
    """Return the text of a file, "-" for standard input, without a byte order mark."""
    try:
        if path == STANDARD_INPUT:
            data = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise CommandFailed(f"{label(path)}: cannot be read: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise CommandFailed(f"{label(path)}: is larger than {_MAX_BYTES >> 20} MiB; give a smaller file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{label(path)}: byte {error.start} is not UTF-8; save the file as UTF-8 text") from None


def read_json(path: Path, hint: str) -> object:
    """Return the JSON value of a file, "-" for standard input.

    Args:
        hint: end of the error message, which says what the file must contain.
    """
    try:
        return strict_json.parse(read_text(path))
    except strict_json.JsonError as error:
        raise CommandFailed(f"{label(path)}: is not valid JSON, {error}; {hint}") from None
