"""What the daemons of a local cluster wrote: their last words, their last lines, and following them."""

import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

_POLL_SECONDS = 0.3
_ERROR = re.compile(r"\b(error|critical|FATAL|PANIC)\b")
_SHOWN_FIRST = frozenset({"ts", "level", "logger", "message", "exception", "node_id"})


def readable(line: str) -> str:
    """A JSON line of a daemon as words; any other line as it is."""
    try:
        record = json.loads(line)
        words = f"{record['ts'][11:23]} {record['level']:<7} {record['logger']}: {record['message']}"
    except (ValueError, KeyError, TypeError, RecursionError):  # a line may repeat what a stranger sent
        return line
    fields = "".join(f" {key}={value}" for key, value in record.items() if key not in _SHOWN_FIRST)
    exception = record.get("exception")
    return f"{words}{fields}" + (f"\n{exception}" if exception else "")


def tail(log: Path, count: int) -> list[str]:
    """The last `count` lines, readable; empty when there is no such file yet."""
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            return [readable(line.rstrip("\n")) for line in deque(file, maxlen=count)]
    except FileNotFoundError:
        return []


def last_words(log: Path) -> str:
    """What a daemon ended with: the last line that names an error, or else the last line."""
    lines = [line.strip().splitlines()[-1] for line in tail(log, 20) if line.strip()]
    errors = [line for line in lines if _ERROR.search(line)]
    return (errors or lines or ["no output"])[-1]


def follow(logs: Mapping[str, Path], sleep: Callable[[float], None] = time.sleep) -> Iterator[tuple[str, str]]:
    """Lines as they are written, with the name of the daemon; for ever."""
    places = {name: log.stat().st_size if log.exists() else 0 for name, log in logs.items()}
    while True:
        quiet = True
        for name, log in logs.items():
            for line in _fresh(log, places, name):
                quiet = False
                yield name, readable(line)
        if quiet:
            sleep(_POLL_SECONDS)


def _fresh(log: Path, places: dict[str, int], name: str) -> Iterator[str]:
    """Whole lines behind the place that was read last."""
    if not log.exists():
        return
    with log.open("rb") as file:
        file.seek(places[name])
        for line in file:
            if not line.endswith(b"\n"):
                return
            places[name] += len(line)
            yield line.decode(errors="replace").rstrip("\n")
