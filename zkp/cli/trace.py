"""`zkp trace`: one task's life on all nodes, in one timeline."""

import asyncio
import re
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from pki.errors import PkiError
from zkp.cli import output, target
from zkp.cli.errors import CommandFailed, UsageProblem
from zkp.cli.target import ClusterTarget, Coordinators, Directory, Identity
from zkp.cli.tasks import Json, TaskId
from zkp.client import task_json
from zkp.client.errors import ClientError
from zkp.client.model import Task
from zkp.client.tasks import TaskClient
from zkp.client.trace import Moment, of_journal, of_log, of_task
from zkp.localcluster.layout import CLIENT, Layout
from zkp.protocol.limits import TASK_ID_PATTERN, TASK_ID_RULE

_HOST = re.compile(r"[A-Za-z0-9._@:%\[\]-]+")
_SSH_SECONDS = 60.0
_NOT_ALLOWED = "systemd-journal"
"""What journalctl's hint names when it shows a user no messages but their own."""
_AT_ONCE = 16

Hosts = Annotated[
    list[str] | None,
    typer.Option("--host", metavar="[USER@]HOST", help="Read this host's journal over ssh; give it for each host."),
]
Logs = Annotated[
    list[Path] | None,
    typer.Option("--log", metavar="FILE", help="Read this file of JSON lines, or of `journalctl --output=json`."),
]


def trace(
    task_id: TaskId,
    *,
    hosts: Hosts = None,
    logs: Logs = None,
    as_json: Json = False,
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = target.DEFAULT,
) -> None:
    """Example: zkp trace 0b0f6d5e-6a39-4a0c-9d6c-0d3f1c1f7b1e --host coordinator-1 --host worker-1

    Show what all nodes say of one task as one timeline: the journals of hosts, or log files, or the logs of the local
    cluster when neither is given; and the times that the cluster itself keeps, if it can be reached.
    """
    if not re.fullmatch(TASK_ID_PATTERN, task_id):
        raise UsageProblem(f"ID: {TASK_ID_RULE}")
    if strange := [host for host in hosts or () if not _HOST.fullmatch(host) or host.startswith("-")]:
        raise UsageProblem(f"--host {strange[0]!r} is not a host: write [USER@]HOST")
    moments, missing = _from_cluster(task_id, lambda: target.find(coordinators, identity, directory, role=CLIENT))
    files = list(logs or ())
    if not files and not hosts:
        files = sorted((Layout(directory.resolve()).root / "logs").glob("*.log"))
    for file in files:
        moments += _from_file(file, task_id)
    found, unreached = _from_hosts(hosts or (), task_id)
    moments += found
    if moments or as_json:
        _show(sorted(moments), as_json=as_json)
    if missing:
        output.note(f"without the cluster's own times: {missing}")
    if unreached:
        raise CommandFailed(f"no journal from {'; '.join(unreached)}")
    if not moments:
        raise CommandFailed(f"no node knows task {task_id}")


def _from_cluster(task_id: str, find: Callable[[], ClusterTarget]) -> tuple[list[Moment], str]:
    """The task's own times, or why there are none."""

    async def ask() -> Task:
        async with find().connect() as connection:
            return await TaskClient(connection).get(task_id)

    try:
        return list(of_task(asyncio.run(ask()))), ""
    except (ClientError, PkiError, UsageProblem) as error:
        return [], error.format_message() if isinstance(error, UsageProblem) else str(error)


def _from_file(file: Path, task_id: str) -> list[Moment]:
    with file.open(encoding="utf-8", errors="replace") as lines:
        about = [line for line in lines if task_id in line]
    return [*of_log(file.stem, about, task_id), *of_journal(file.stem, about, task_id)]


def _from_hosts(hosts: Sequence[str], task_id: str) -> tuple[list[Moment], list[str]]:
    """What the journals say, and which could not be read and why."""
    moments: list[Moment] = []
    unreached = []
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for host, answer in zip(hosts, pool.map(lambda host: _journal(host, task_id), hosts), strict=True):
            if isinstance(answer, str):
                unreached.append(f"{host}: {answer}")
            else:
                moments += of_journal(host, answer, task_id)
    return moments, unreached


def _journal(host: str, task_id: str) -> list[str] | str:
    """The lines of the host's journal about the task, or in a word why there are none."""
    command = ["ssh", "-o", "BatchMode=yes", "--", host]
    command += ["journalctl", "--output=json", "--no-pager", f"ZKP_TASK_ID={task_id}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SSH_SECONDS)
    except subprocess.TimeoutExpired:
        return f"no answer within {_SSH_SECONDS:.0f} s"
    except FileNotFoundError:
        return "ssh is not installed"
    if _NOT_ALLOWED in done.stderr:
        return f"its user may not read the journal: put it into the group {_NOT_ALLOWED}"
    if done.returncode not in {0, 1}:  # 1: nothing was found
        return (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
    return done.stdout.splitlines()


def _show(moments: Sequence[Moment], *, as_json: bool) -> None:
    if as_json:
        output.as_json(
            [
                {
                    "at": task_json.moment(moment.at),
                    "node": moment.node,
                    "level": moment.level,
                    "message": moment.words,
                    **moment.fields,
                }
                for moment in moments
            ]
        )
        return
    rows = [
        (
            f"{moment.at:%Y-%m-%d %H:%M:%S.%f}"[:-3],
            moment.node,
            moment.words.splitlines()[0] if moment.words else "",
            " ".join(f"{key}={value}" for key, value in moment.fields.items() if key != "exception"),
        )
        for moment in moments
    ]
    output.table("Timeline (UTC)", ("time", "node", "what", "about"), rows)
