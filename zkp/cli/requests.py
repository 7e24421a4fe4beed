"""Builds submissions from options and input files.

Private values may come from a file, from standard input or from the environment, since every user of the machine can
read the arguments of a running program.
"""

import csv
import io
import os
import re
import secrets
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from zkp.cli import files, output
from zkp.cli.errors import CommandFailed, UsageProblem
from zkp.client.model import Submission
from zkp.proofs import InputError, circuits, merkle_proof, strict_json
from zkp.proofs.field import ORDER

Request = dict[str, object]

_OBJECT = 'write a JSON object such as {"value": 42}'
_NUMBER_LIKE = re.compile(r"(o?x)?[a-f]*|[oil]*|nan|inf|infinity|null|none|nil|na|nd|missing|true|false")
_SHOWN_CHARACTERS = 64


def read_inputs(path: Path | None) -> Request:
    """Return the request fields of a JSON file, "-" for standard input; empty if `path` is None."""
    if path is None:
        return {}
    fields = files.read_json(path, _OBJECT)
    if not isinstance(fields, dict):
        raise CommandFailed(f"{files.label(path)}: is {strict_json.kind(fields)}, not a JSON object; {_OBJECT}")
    return fields


def merge(inputs: Request, options: Mapping[str, object]) -> Request:
    """Merge the fields of the inputs file and of options; a field may be given only once."""
    given = {name: value for name, value in options.items() if value is not None}
    duplicates = sorted(inputs.keys() & given.keys())
    if duplicates:
        raise UsageProblem(f"{duplicates[0]}: is given both as an option and in --inputs; give it once")
    return {**inputs, **given}


def read_leaves(path: Path, heading: bool | None = None) -> list[str]:
    """Return the entries of a list: the first column of a CSV file, "-" for standard input.

    An entry is a decimal or 0x… hexadecimal number; `InputError` names the line of an invalid one.

    Args:
        heading: whether the first line is a heading; by default, if it cannot be meant as a number, with a note.
    """
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        return []
    line, text = first
    if heading is None and _is_heading(text):
        output.note(
            f"{files.label(path)}, line {line}: {text[:_SHOWN_CHARACTERS]!a} is treated as a heading, not as an entry"
        )
        heading = True
    hint = "; if this line is a heading, give --heading" if heading is None else ""
    entries = [] if heading else [_entry(path, line, text, hint)]
    return [*entries, *(_entry(path, line, text) for line, text in rows)]


def _rows(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line number of each row, from 1, and its first column; blank rows are skipped."""
    reader = csv.reader(io.StringIO(files.read_text(path), newline=""))
    line = 1
    try:
        for row in reader:
            if any(column.strip() for column in row):
                yield line, row[0].strip()
            line = reader.line_num + 1
    except csv.Error as error:
        raise CommandFailed(f"{files.label(path)}, line {line}: {error}; write one number per line") from None


def _entry(path: Path, line: int, text: str, hint: str = "") -> str:
    try:
        merkle_proof.leaf(f"{files.label(path)}, line {line}", text)
    except InputError as error:
        raise InputError(error.field, f"{error.message}{hint}") from None
    return text


def _is_heading(text: str) -> bool:
    """Return whether a list's first entry is a word without digits, which cannot be meant as a number.

    Hexadecimal letters alone (deadbeef), letters that resemble digits (O, l), and placeholders for missing numbers
    (NaN, null, N/A) do not count as words.
    """
    letters = "".join(filter(str.isalpha, text)).lower()
    return not any(map(str.isnumeric, text)) and _NUMBER_LIKE.fullmatch(letters) is None


def merkle(request: Request, count: int) -> Iterator[Request]:
    """Yield one request per entry, starting at `leaf_index` and wrapping around the end of the list."""
    leaves, index = request.get("leaves"), request.get("leaf_index")
    if count == 1 or not isinstance(leaves, list) or not leaves or not isinstance(index, int):
        yield request
        return
    for step in range(count):
        # The first index is kept as given, so that one out of range is refused.
        yield {**request, "leaf_index": (index + step) % len(leaves) if step else index}


def repeated(request: Request, count: int) -> Iterator[Request]:
    """Yield copies of the request."""
    for _ in range(count):
        yield dict(request)


def with_blinding(request: Request) -> Request:
    """Return the request with a random blinding, unless it has one."""
    return request if request.get("blinding") is not None else {**request, "blinding": secrets.randbelow(ORDER)}


def write_blindings(drawn: Iterable[Request], path: Path) -> None:
    """Write the blindings, one per line, to a new file with mode 0600."""
    try:
        with open(path, "x", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.writelines(f"{request['blinding']}\n" for request in drawn)
    except FileExistsError:
        raise CommandFailed(f"{path}: already exists and may contain another blinding; choose another file") from None
    except OSError as error:
        raise CommandFailed(f"{path}: cannot be written: {error.strerror}") from None


def task_ids(chosen: str | None, count: int) -> Iterator[str]:
    """Yield `count` task ids: random ones, or the chosen one, numbered if there are several."""
    for number in range(1, count + 1):
        if chosen is None:
            yield str(uuid.uuid4())
        else:
            yield chosen if count == 1 else f"{chosen}-{number}"


def submission(task_id: str, circuit: str, request: Request, max_retries: int | None) -> Submission:
    """Prepare one request; raises `InputError`, which names the invalid field."""
    prepared = circuits.prepare(circuit, request)
    return Submission(task_id, circuit, prepared.inputs, prepared.public_inputs, max_retries)
