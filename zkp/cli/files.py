"""Files that a user names: read whole within a bound, as UTF-8 text, or as JSON with one meaning."""

import sys
from pathlib import Path

from zkp.cli.errors import CommandFailed
from zkp.proofs import strict_json

STANDARD_INPUT = Path("-")
_MAX_BYTES = 16 * 2**20  # a list of 65,536 field elements, the most that a request may have, takes 5 MiB


def label(path: Path) -> str:
    """What errors call the file."""
    return "standard input" if path == STANDARD_INPUT else str(path)


def read_text(path: Path) -> str:
    """The text of a file, "-" for standard input, without the byte order mark that some editors write."""
    try:
        if path == STANDARD_INPUT:
            data = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise CommandFailed(f"{label(path)} cannot be read: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise CommandFailed(f"{label(path)}: is larger than {_MAX_BYTES >> 20} MiB; give a smaller file")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommandFailed(f"{label(path)}: byte {error.start} is not UTF-8; save the file as UTF-8 text") from None


def read_json(path: Path, wanted: str) -> object:
    """The JSON value of a file, "-" for standard input. `wanted` ends the error: what the file should hold."""
    try:
        return strict_json.parse(read_text(path))
    except strict_json.JsonError as error:
        raise CommandFailed(f"{label(path)}: is not usable JSON, {error}; {wanted}") from None
