"""What to prove, from options and files to submissions. Pure but for reading the files that are named.

Private values may come from a file, from standard input or from the environment: the arguments of a
running program can be read by every user of the machine.
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
    """A JSON object of request fields from a file, "-" for standard input; empty when none is named."""
    if path is None:
        return {}
    fields = files.read_json(path, _OBJECT)
    if not isinstance(fields, dict):
        raise CommandFailed(f"{files.label(path)}: is {strict_json.kind(fields)}, not a JSON object; {_OBJECT}")
    return fields


def merge(inputs: Request, options: Mapping[str, object]) -> Request:
    """Fields of the inputs file and of options together; none may be given twice."""
    given = {name: value for name, value in options.items() if value is not None}
    twice = sorted(inputs.keys() & given.keys())
    if twice:
        raise UsageProblem(f"{twice[0]} is given both as an option and in --inputs: choose one")
    return {**inputs, **given}


def read_leaves(path: Path, heading: bool | None = None) -> list[str]:
    """The entries of a list: the first column of a CSV file, "-" for standard input.

    An entry is a decimal or 0x… hexadecimal number; InputError names the line of a wrong one. `heading`: whether
    the first line is a heading. By default it is one only when it cannot be meant as a number, and a note says so.
    """
    rows = _rows(path)
    first = next(rows, None)
    if first is None:
        return []
    line, text = first
    if heading is None and _is_heading(text):
        output.note(
            f"{files.label(path)}, line {line}: {text[:_SHOWN_CHARACTERS]!a} is taken as a heading, not as an entry"
        )
        heading = True
    cure = "; if this line is a heading, give --heading" if heading is None else ""
    entries = [] if heading else [_entry(path, line, text, cure)]
    return [*entries, *(_entry(path, line, text) for line, text in rows)]


def _rows(path: Path) -> Iterator[tuple[int, str]]:
    """The line on which each row begins, from 1, and its first column; rows without any text are left out."""
    reader = csv.reader(io.StringIO(files.read_text(path), newline=""))
    line = 1
    try:
        for row in reader:
            if any(column.strip() for column in row):
                yield line, row[0].strip()
            line = reader.line_num + 1
    except csv.Error as error:
        raise CommandFailed(f"{files.label(path)}, line {line}: {error}; write one number a line") from None


def _entry(path: Path, line: int, text: str, cure: str = "") -> str:
    try:
        merkle_proof.leaf(f"{files.label(path)}, line {line}", text)
    except InputError as error:
        raise InputError(error.field, f"{error.message}{cure}") from None
    return text


def _is_heading(text: str) -> bool:
    """Whether a list's first entry cannot be meant as a number: words without digits.

    Hexadecimal letters alone (deadbeef), letters that look like digits (O, l), and what programs write where a number
    is missing (NaN, null, N/A) are not such words.
    """
    letters = "".join(filter(str.isalpha, text)).lower()
    return not any(map(str.isnumeric, text)) and _NUMBER_LIKE.fullmatch(letters) is None


def merkle(request: Request, count: int) -> Iterator[Request]:
    """One request an entry, from `leaf_index` on and around the end of the list."""
    leaves, index = request.get("leaves"), request.get("leaf_index")
    if count == 1 or not isinstance(leaves, list) or not leaves or not isinstance(index, int):
        yield request
        return
    for step in range(count):
        # The first index stays as it was given, so that one out of range is refused.
        yield {**request, "leaf_index": (index + step) % len(leaves) if step else index}


def repeated(request: Request, count: int) -> Iterator[Request]:
    """The same request again and again."""
    for _ in range(count):
        yield dict(request)


def with_blinding(request: Request) -> Request:
    """The request with a blinding drawn for it, unless it has one."""
    return request if request.get("blinding") is not None else {**request, "blinding": secrets.randbelow(ORDER)}


def keep_blindings(drawn: Iterable[Request], path: Path) -> None:
    """Write the blindings, one a line, to a new file that its owner alone may read."""
    try:
        with open(path, "x", encoding="ascii", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
            file.writelines(f"{request['blinding']}\n" for request in drawn)
    except FileExistsError:
        raise CommandFailed(f"{path} already exists and may hold another blinding: choose another file") from None
    except OSError as error:
        raise CommandFailed(f"{path} cannot be written: {error.strerror}") from None


def task_ids(chosen: str | None, count: int) -> Iterator[str]:
    """Ids for `count` tasks: random ones, or the chosen one, numbered when there are several."""
    for number in range(1, count + 1):
        if chosen is None:
            yield str(uuid.uuid4())
        else:
            yield chosen if count == 1 else f"{chosen}-{number}"


def submission(task_id: str, circuit: str, request: Request, max_retries: int | None) -> Submission:
    """Prepare one request; raises `InputError` with the field that is wrong."""
    prepared = circuits.prepare(circuit, request)
    return Submission(task_id, circuit, prepared.inputs, prepared.public_inputs, max_retries)
