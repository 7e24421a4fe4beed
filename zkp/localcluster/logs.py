"""Logs of the daemons of a local cluster: last error, last lines, following."""

import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

_POLL_INTERVAL_S = 0.3
_ERROR = re.compile(r"\b(error|critical|FATAL|PANIC)\b")
_SHOWN_FIRST = frozenset({"ts", "level", "logger", "message", "exception", "node_id"})


def readable(line: str) -> str:
    """Format a JSON log line as text; other lines are returned unchanged."""
    try:
        record = json.loads(line)
        text = f"{record['ts'][11:23]} {record['level']:<7} {record['logger']}: {record['message']}"
    except (ValueError, KeyError, TypeError, RecursionError):  # a line may contain data from an unauthenticated peer
        return line
    fields = "".join(f" {key}={value}" for key, value in record.items() if key not in _SHOWN_FIRST)
    exception = record.get("exception")
    return f"{text}{fields}" + (f"\n{exception}" if exception else "")


def tail(log: Path, count: int) -> list[str]:
    """Return the last `count` lines as text; empty if the file does not exist."""
    try:
        with log.open(encoding="utf-8", errors="replace") as file:
            return [readable(line.rstrip("\n")) for line in deque(file, maxlen=count)]
    except FileNotFoundError:
        return []


def last_error(log: Path) -> str:
    """Return the last line that reports an error, or else the last line."""
    lines = [line.strip().splitlines()[-1] for line in tail(log, 20) if line.strip()]
    errors = [line for line in lines if _ERROR.search(line)]
    return (errors or lines or ["no output"])[-1]


def follow(logs: Mapping[str, Path], sleep: Callable[[float], None] = time.sleep) -> Iterator[tuple[str, str]]:
    """Yield new lines with the name of their daemon, without end."""
    offsets = {name: log.stat().st_size if log.exists() else 0 for name, log in logs.items()}
    while True:
        quiet = True
        for name, log in logs.items():
            for line in _fresh(log, offsets, name):
                quiet = False
                yield name, readable(line)
        if quiet:
            sleep(_POLL_INTERVAL_S)


def _fresh(log: Path, offsets: dict[str, int], name: str) -> Iterator[str]:
    """Yield the complete lines after the offset that was read last."""
    if not log.exists():
        return
    with log.open("rb") as file:
        file.seek(offsets[name])
        for line in file:
            if not line.endswith(b"\n"):
                return
            offsets[name] += len(line)
            yield line.decode(errors="replace").rstrip("\n")
