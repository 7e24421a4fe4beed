"""`zkp watch`, `get`, `list` and `cancel`: commands for submitted tasks."""

import asyncio
import contextlib
from pathlib import Path
from typing import Annotated

import typer

from zkp.cli import output, task_output
from zkp.cli.errors import CommandFailed
from zkp.cli.target import Coordinators, Directory, Identity, find_cluster
from zkp.client.model import Task, TaskState
from zkp.client.tasks import TaskClient
from zkp.localcluster.layout import CLIENT, DEFAULT_DIRECTORY

TaskId = Annotated[str, typer.Argument(metavar="ID", help="Task id.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def watch(
    task_id: TaskId,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Example: zkp watch 0b0f6d5e-6a39-4a0c-9d6c-0d3f1c1f7b1e

    Print the task in its current state and after each change until it ends. Fails unless it completes.
    """
    target = find_cluster(coordinators, identity, directory, role=CLIENT)

    async def follow() -> Task | None:
        latest = None
        async with (
            target.connect() as connection,
            contextlib.aclosing(TaskClient(connection).watch(task_id)) as versions,
        ):
            async for latest in versions:
                if as_json:
                    output.as_json_line(task_output.to_json(latest))
                else:
                    output.line(task_output.change(latest))
        return latest

    task = asyncio.run(follow())
    if task is None or task.state is not TaskState.COMPLETED:
        raise CommandFailed(f"task {task_id}: was not completed")


def get(
    task_id: TaskId,
    *,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the proof of a completed task to this file.")
    ] = None,
    as_json: Json = False,
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Example: zkp get 0b0f6d5e-6a39-4a0c-9d6c-0d3f1c1f7b1e --out proof.json

    Show one task, and write its proof to a file with --out.
    """
    target = find_cluster(coordinators, identity, directory, role=CLIENT)

    async def ask() -> Task:
        async with target.connect() as connection:
            return await TaskClient(connection).get(task_id)

    task = asyncio.run(ask())
    if as_json:
        output.as_json(task_output.to_json(task))
    else:
        output.fields(task_output.to_fields(task))
    if out is not None:
        task_output.write_proof(task, out)
        output.note(f"proof written to {out}")


def list_tasks(
    *,
    state: Annotated[TaskState | None, typer.Option(help="Only tasks in this state.")] = None,
    circuit: Annotated[str, typer.Option(help="Only tasks of this circuit.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of tasks, newest first.")] = 100,
    as_json: Json = False,
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Example: zkp list --state failed --limit 20

    List tasks, newest first.
    """
    target = find_cluster(coordinators, identity, directory, role=CLIENT)

    async def ask() -> list[Task]:
        async with target.connect() as connection:
            found = TaskClient(connection).list(state=state, circuit=circuit, limit=limit)
            return [task async for task in found]

    task_output.show(asyncio.run(ask()), as_json=as_json)


def cancel(
    task_id: TaskId,
    *,
    as_json: Json = False,
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Example: zkp cancel 0b0f6d5e-6a39-4a0c-9d6c-0d3f1c1f7b1e

    Cancel a task that has not ended yet.
    """
    target = find_cluster(coordinators, identity, directory, role=CLIENT)

    async def ask() -> Task:
        async with target.connect() as connection:
            return await TaskClient(connection).cancel(task_id)

    task = asyncio.run(ask())
    if as_json:
        output.as_json(task_output.to_json(task))
    else:
        output.line(task_output.change(task))
