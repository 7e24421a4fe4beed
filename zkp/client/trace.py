"""One task's life on all nodes as one timeline: log lines of every daemon, and the cluster's own record of times.

Log lines come as JSON: as the daemons write them into a pipe, or as `journalctl --output=json` prints them. At log
level info the coordinators name the end of each attempt; when a task was accepted, assigned and started stands in the
task itself, which is asked for and joins the timeline as the node "cluster".
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
"""The fields of log lines that are numbers."""
_TOLD = frozenset({"task_id", "node_id"})  # in the heading and in the column of nodes already


@dataclass(frozen=True, slots=True, order=True)
class Moment:
    """Something that happened to a task. node: who says so; fields: what it is about, without the task's id."""

    at: datetime
    node: str
    level: str
    words: str
    fields: Mapping[str, object] = field(default_factory=dict, compare=False)


def of_log(node: str, lines: Iterable[str], task_id: str) -> Iterator[Moment]:
    """What a daemon's JSON log says of the task; others are passed over. node: who wrote it, unless it says so."""
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
        yield Moment(
            at,
            record.get("node_id", node),
            record.get("level", ""),
            record.get("message", ""),
            _without_told(shown),
        )


def of_journal(host: str, lines: Iterable[str], task_id: str) -> Iterator[Moment]:
    """What a host's journal says of the task, from `journalctl --output=json ZKP_TASK_ID=…`."""
    for line in lines:
        record = _object(line)
        if record.get("ZKP_TASK_ID") != task_id or "__REALTIME_TIMESTAMP" not in record:
            continue
        at = datetime.fromtimestamp(int(record["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
        own = {key.removeprefix(_FIELD).lower(): value for key, value in record.items() if key.startswith(_FIELD)}
        fields = {key: _number(value) if key in _NUMBERS else value for key, value in own.items()}
        yield Moment(
            at,
            record.get("ZKP_NODE_ID", host),
            _LEVELS.get(record.get("PRIORITY", ""), "info"),
            record.get("MESSAGE", ""),
            _without_told(fields),
        )


def of_task(task: Task) -> Iterator[Moment]:
    """The times that the cluster keeps: those of the task and of its current or last attempt."""
    attempt = {"attempt": task.attempt, **({"worker_id": task.worker_id} if task.worker_id else {})}
    error = f", {task.error.code}: {task.error.message}" if task.error else ""
    for at, words, fields in (
        (task.created_at, f"accepted, {task.circuit}", {}),
        (task.assigned_at, "assigned", attempt),
        (task.started_at, "started", attempt),
        (task.finished_at, f"{task.state}{error}", attempt),
    ):
        if at is not None:
            yield Moment(at, CLUSTER, "info", words, fields)


def _without_told(fields: Mapping[str, object]) -> dict[str, object]:
    return {key: value for key, value in fields.items() if key not in _TOLD}


def _number(text: str) -> int | str:
    """A number of a log field: the journal keeps all fields as text."""
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII) else text


def _object(line: str) -> dict[str, str]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):  # a line may repeat what a stranger sent
        return {}
    return found if isinstance(found, dict) else {}
