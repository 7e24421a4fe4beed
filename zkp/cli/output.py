"""Output of the command: formatted on a terminal, plain lines in a pipe, JSON on request.

Results are written to standard output, progress and notes to standard error, so that a pipe carries results only.
"""

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text


class Display(Protocol):
    """A progress display."""

    def done(self, count: int) -> None:
        """Report that `count` items are done."""

    def say(self, text: str) -> None:
        """Print a line above the progress."""


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], out: TextIO | None = None) -> None:
    """Print rows under headings; in a pipe, as aligned plain columns that are not truncated."""
    stream = out or sys.stdout
    cells = [[str(cell) for cell in row] for row in rows]
    if not stream.isatty():
        stream.write(plain_table(columns, cells))
        return
    drawn = Table(*columns, title=title, title_justify="left")
    for row in cells:
        drawn.add_row(*(Text(cell) for cell in row))  # Text: a cell is not parsed as markup
    Console(file=stream).print(drawn)


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format rows with headings in capitals, aligned columns, and "-" for an empty cell."""
    lines = [[heading.upper() for heading in columns], *([cell or "-" for cell in row] for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "".join(f"{line.rstrip()}\n" for line in padded)


def as_json(value: object) -> None:
    """Print one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")


def as_json_line(value: object) -> None:
    """Print one JSON value on one line, without buffering."""
    line(json.dumps(value))


def fields(values: Mapping[str, object], out: TextIO | None = None) -> None:
    """Print names and values, one pair per line; empty values are left out."""
    shown = {name: str(value) for name, value in values.items() if value not in (None, "")}
    width = max(map(len, shown), default=0)
    (out or sys.stdout).write("".join(f"{name.ljust(width)}  {value}\n" for name, value in shown.items()))


def line(text: str) -> None:
    """Print a result to standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a note to standard error."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def progress(what: str, total: int, out: TextIO | None = None, *, shown: bool = True) -> Iterator[Display]:
    """Show progress: a bar on a terminal, a line per tenth in a pipe."""
    stream = out or sys.stderr
    if not shown:
        yield _Hidden()
        return
    if not stream.isatty():
        yield _Lines(what, total, stream)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(file=stream)) as bar:
        yield _Bar(bar, bar.add_task(what, total=total))


class _Hidden:
    def done(self, count: int) -> None:
        """Not shown."""

    def say(self, text: str) -> None:
        """Not shown."""


class _Bar:
    def __init__(self, bar: Progress, shown: TaskID) -> None:
        self._bar = bar
        self._shown = shown

    def done(self, count: int) -> None:
        self._bar.update(self._shown, completed=count)

    def say(self, text: str) -> None:
        self._bar.console.print(Text(text))


class _Lines:
    def __init__(self, what: str, total: int, stream: TextIO) -> None:
        self._what = what
        self._total = total
        self._stream = stream
        self._shown = 0

    def done(self, count: int) -> None:
        step = max(1, self._total // 10)
        if count > self._shown and (count - self._shown >= step or count == self._total):
            self._shown = count
            self.say(f"{self._what}: {count} of {self._total}")

    def say(self, text: str) -> None:
        self._stream.write(f"{text}\n")
        self._stream.flush()
