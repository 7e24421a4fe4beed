"""Timeline of one task across all nodes, from the daemons' logs and the times in the task itself.

Log lines are JSON, as the daemons write them to a pipe or as `journalctl --output=json` prints them. At log level
info the coordinators log the end of each attempt; the times at which a task was accepted, assigned and started are
read from the task and join the timeline as the node "cluster".
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from zkp.client.model import Task

CLUSTER = "cluster"
_LEVELS = {"0": "critical", "1": "critical", "2": "critical", "3": "error", "4": "warning", "7": "debug"}
_FIELD = "ZKP_"
_NUMBERS = frozenset({"attempt", "term", "revision", "lag", "migration"})
"""Log fields that are numbers."""
_SHOWN_ELSEWHERE = frozenset({"task_id", "node_id"})  # in the heading and the node column


@dataclass(frozen=True, slots=True, order=True)
class TraceEvent:
    """Something that happened to a task. `node`: where it was logged; `fields`: log fields without the task's id."""

    at: datetime
    node: str
    level: str
    message: str
    fields: Mapping[str, object] = field(default_factory=dict, compare=False)


def events_from_log(node: str, lines: Iterable[str], task_id: str) -> Iterator[TraceEvent]:
    """Yield the task's events in a daemon's JSON log, skipping other lines.

    Args:
        node: the node to assume for lines that do not name one.
    """
    for line in lines:
        if task_id not in line:
            continue
        record = _object(line)
        if record.get("task_id") != task_id:
            continue
        try:
            at = datetime.fromisoformat(record["ts"])
        except (KeyError, ValueError):
            continue
        shown = {key: value for key, value in record.items() if key not in {"ts", "level", "logger", "message"}}
        yield TraceEvent(
            at,
            record.get("node_id", node),
            record.get("level", ""),
            record.get("message", ""),
            _other_fields(shown),
        )


def events_from_journal(host: str, lines: Iterable[str], task_id: str) -> Iterator[TraceEvent]:
    """Yield the task's events in the output of `journalctl --output=json ZKP_TASK_ID=…` on a host."""
    for line in lines:
        record = _object(line)
        if record.get("ZKP_TASK_ID") != task_id or "__REALTIME_TIMESTAMP" not in record:
            continue
        at = datetime.fromtimestamp(int(record["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
        own = {key.removeprefix(_FIELD).lower(): value for key, value in record.items() if key.startswith(_FIELD)}
        fields = {key: _number(value) if key in _NUMBERS else value for key, value in own.items()}
        yield TraceEvent(
            at,
            record.get("ZKP_NODE_ID", host),
            _LEVELS.get(record.get("PRIORITY", ""), "info"),
            record.get("MESSAGE", ""),
            _other_fields(fields),
        )


def events_from_task(task: Task) -> Iterator[TraceEvent]:
    """Yield the events that the task itself records: its own, and those of its current or last attempt."""
    attempt = {"attempt": task.attempt, **({"worker_id": task.worker_id} if task.worker_id else {})}
    error = f", {task.error.code}: {task.error.message}" if task.error else ""
    for at, message, fields in (
        (task.created_at, f"accepted, {task.circuit}", {}),
        (task.assigned_at, "assigned", attempt),
        (task.started_at, "started", attempt),
        (task.finished_at, f"{task.state}{error}", attempt),
    ):
        if at is not None:
            yield TraceEvent(at, CLUSTER, "info", message, fields)


def _other_fields(fields: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in fields.items() if key not in _SHOWN_ELSEWHERE}


def _number(text: str) -> int | str:
    """Parse a number: the journal stores all fields as text."""
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII) else text


def _object(line: str) -> dict[str, str]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):  # a line may contain data from an unauthenticated peer
        return {}
    return found if isinstance(found, dict) else {}
