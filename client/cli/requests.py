"""What to prove, from options and files to submissions. Pure but for reading the files that are named.

Private values may come from a file, from standard input or from the environment: the arguments of a
running program can be read by every user of the machine.
"""

import csv
import json
import os
import secrets
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from client.cli.errors import CommandFailed, UsageProblem
from client.records import Submission
from proofs import circuits
from proofs.field import ORDER

Request = dict[str, object]

_STANDARD_INPUT = Path("-")


def read_inputs(path: Path | None) -> Request:
    """A JSON object of request fields from a file, "-" for standard input; empty when none is named."""
    if path is None:
        return {}
    try:
        text = sys.stdin.read() if path == _STANDARD_INPUT else path.read_text(encoding="utf-8")
        fields = json.loads(text)
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise CommandFailed(f'{path} is not JSON: write an object such as {{"value": 42}}') from None
    if not isinstance(fields, dict):
        raise CommandFailed(f'{path} is no JSON object: write one such as {{"value": 42}}')
    return fields


def merge(inputs: Request, options: Mapping[str, object]) -> Request:
    """Fields of the inputs file and of options together; none may be given twice."""
    given = {name: value for name, value in options.items() if value is not None}
    twice = sorted(inputs.keys() & given.keys())
    if twice:
        raise UsageProblem(f"{twice[0]} is given both as an option and in --inputs: choose one")
    return {**inputs, **given}


def read_leaves(path: Path) -> list[str]:
    """The entries of a list: the first column of a CSV file, with or without a heading.

    An entry is a decimal or 0x… hexadecimal number; the circuit's own check names a wrong one.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            entries = [row[0].strip() for row in csv.reader(file) if row and row[0].strip()]
    except OSError as error:
        raise CommandFailed(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise CommandFailed(f"{path} is no text file with one entry a line") from None
    return entries[1:] if entries and not entries[0][0].isdigit() else entries


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
        raise CommandFailed(f"{path} is there already: it may hold another blinding, choose another file") from None
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
