"""`zkp trace`: the timeline of one task across all nodes."""

import asyncio
import re
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from pki.errors import PkiError
from zkp.cli import output
from zkp.cli.errors import CommandFailed, UsageProblem
from zkp.cli.target import ClusterTarget, Coordinators, Directory, Identity, find_cluster
from zkp.cli.tasks import Json, TaskId
from zkp.client import task_json
from zkp.client.errors import ClientError
from zkp.client.model import Task
from zkp.client.tasks import TaskClient
from zkp.client.trace import TraceEvent, events_from_journal, events_from_log, events_from_task
from zkp.localcluster.layout import CLIENT, DEFAULT_DIRECTORY, Layout
from zkp.protocol.limits import TASK_ID_PATTERN, TASK_ID_RULE

_HOST = re.compile(r"[A-Za-z0-9._@:%\[\]-]+")
_SSH_TIMEOUT_S = 60.0
_JOURNAL_GROUP = "systemd-journal"
"""The group named by journalctl's hint to users who may only read their own messages."""
_MAX_CONCURRENT = 16

Hosts = Annotated[
    list[str] | None,
    typer.Option(
        "--host", metavar="[USER@]HOST", help="Read this host's journal over ssh; repeat it for more hosts."
    ),
]
Logs = Annotated[
    list[Path] | None,
    typer.Option(
        "--log",
        metavar="FILE",
        help="Read a file of JSON log lines or of `journalctl --output=json`; repeat it for more files.",
    ),
]


def trace(
    task_id: TaskId,
    *,
    hosts: Hosts = None,
    logs: Logs = None,
    as_json: Json = False,
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Example: zkp trace 0b0f6d5e-6a39-4a0c-9d6c-0d3f1c1f7b1e --host coordinator-1 --host worker-1

    Show the timeline of one task from the journals of hosts or from log files, by default from the logs of the local
    cluster, together with the times that the cluster itself stores, if it can be reached.
    """
    if not re.fullmatch(TASK_ID_PATTERN, task_id):
        raise UsageProblem(f"ID: {TASK_ID_RULE}")
    if invalid := [host for host in hosts or () if not _HOST.fullmatch(host) or host.startswith("-")]:
        raise UsageProblem(f"--host: {invalid[0]!r} is not a host; write [USER@]HOST")
    events, missing = _from_cluster(task_id, lambda: find_cluster(coordinators, identity, directory, role=CLIENT))
    files = list(logs or ())
    if not files and not hosts:
        files = sorted((Layout(directory.resolve()).root / "logs").glob("*.log"))
    for file in files:
        events += _from_file(file, task_id)
    found, unreached = _from_hosts(hosts or (), task_id)
    events += found
    if events or as_json:
        _show(sorted(events), as_json=as_json)
    if missing:
        output.note(f"the cluster's own times are missing: {missing}")
    if unreached:
        raise CommandFailed(f"no journal from {'; '.join(unreached)}")
    if not events:
        raise CommandFailed(f"task {task_id}: not found on any node")


def _from_cluster(task_id: str, find: Callable[[], ClusterTarget]) -> tuple[list[TraceEvent], str]:
    """Return the task's own events, or why there are none."""

    async def ask() -> Task:
        async with find().connect() as connection:
            return await TaskClient(connection).get(task_id)

    try:
        return list(events_from_task(asyncio.run(ask()))), ""
    except (ClientError, PkiError, UsageProblem) as error:
        return [], error.format_message() if isinstance(error, UsageProblem) else str(error)


def _from_file(file: Path, task_id: str) -> list[TraceEvent]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        about = [line for line in lines if task_id in line]
    return [*events_from_log(file.stem, about, task_id), *events_from_journal(file.stem, about, task_id)]


def _from_hosts(hosts: Sequence[str], task_id: str) -> tuple[list[TraceEvent], list[str]]:
    """Return the events in the journals, and which journals could not be read and why."""
    events: list[TraceEvent] = []
    unreached = []
    with ThreadPoolExecutor(_MAX_CONCURRENT) as pool:
        for host, answer in zip(hosts, pool.map(lambda host: _journal(host, task_id), hosts), strict=True):
            if isinstance(answer, str):
                unreached.append(f"{host}: {answer}")
            else:
                events += events_from_journal(host, answer, task_id)
    return events, unreached


def _journal(host: str, task_id: str) -> list[str] | str:
    """Return the lines about the task in the host's journal, or the reason for having none."""
    command = ["ssh", "-o", "BatchMode=yes", "--", host]
    command += ["journalctl", "--output=json", "--no-pager", f"ZKP_TASK_ID={task_id}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SSH_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return f"no answer within {_SSH_TIMEOUT_S:.0f} s"
    except FileNotFoundError:
        return "ssh is not installed"
    if _JOURNAL_GROUP in done.stderr:
        return f"the user may not read the journal; add it to the group {_JOURNAL_GROUP}"
    if done.returncode not in {0, 1}:  # 1: no matching line
        return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    return done.stdout.splitlines()


def _show(events: Sequence[TraceEvent], *, as_json: bool) -> None:
    if as_json:
        output.as_json(
            [
                {
                    "at": task_json.timestamp(event.at),
                    "node": event.node,
                    "level": event.level,
                    "message": event.message,
                    **event.fields,
                }
                for event in events
            ]
        )
        return
    rows = [
        (
            f"{event.at:%Y-%m-%d %H:%M:%S.%f}"[:-3],
            event.node,
            event.message.splitlines()[0] if event.message else "",
            " ".join(f"{key}={value}" for key, value in event.fields.items() if key != "exception"),
        )
        for event in events
    ]
    output.table("Timeline (UTC)", ("time", "node", "what", "about"), rows)
