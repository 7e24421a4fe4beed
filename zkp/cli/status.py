"""`zkp status`: nodes, workers and tasks of a cluster."""

import asyncio
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from zkp.cli import output
from zkp.cli.errors import CommandFailed
from zkp.cli.target import ClusterTarget, Coordinators, Directory, Identity, find_cluster
from zkp.client import task_json
from zkp.client.admin import AdminClient, ClusterStatus, Node, Worker
from zkp.client.model import TaskState
from zkp.localcluster.layout import ADMIN, DEFAULT_DIRECTORY

NO_LEADER = "no leader; check that a majority of the coordinators is running"

_NODES = ("node", "role", "term", "raft", "grpc", "applied", "note")
_WORKERS = ("worker", "state", "busy", "circuits", "heartbeat")


def status(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Example: zkp status --json

    Show the nodes with role, term and addresses, the workers, and the tasks by state. Requires an admin's
    certificate. Fails if there is no leader.
    """
    found = query(find_cluster(coordinators, identity, directory, role=ADMIN))
    if as_json:
        output.as_json(to_json(found))
    else:
        show(found)
    if not found.leader:
        raise CommandFailed(NO_LEADER)


def query(target: ClusterTarget) -> ClusterStatus:
    """Return the cluster's status, from all nodes that answer."""

    async def run() -> ClusterStatus:
        async with target.connect() as connection:
            return await AdminClient(connection).cluster_status()

    return asyncio.run(run())


def show(found: ClusterStatus) -> None:
    """Print tables of nodes, workers and tasks, and a line about the database."""
    output.table("Nodes", _NODES, [_node(node) for node in found.nodes])
    output.line("")
    output.table("Workers", _WORKERS, [_worker(worker) for worker in found.workers])
    output.line("")
    tasks = [(state.value, found.tasks.get(state.value, 0)) for state in TaskState]
    output.table("Tasks in memory", ("state", "tasks"), tasks)
    behind = f", {found.projection_backlog} revisions behind" if found.projection_backlog else ""
    reason = f": {found.database_reason}" if found.database_reason else ""
    output.line(f"Database: {found.database or 'unknown'}{behind}{reason}")


def to_json(found: ClusterStatus) -> dict[str, object]:
    """Return the status as a JSON object."""
    document: dict[str, object] = asdict(found)
    document["workers"] = [
        {**asdict(worker), "last_heartbeat": task_json.timestamp(worker.last_heartbeat)} for worker in found.workers
    ]
    return document


def _node(node: Node) -> tuple[object, ...]:
    term = "" if node.term is None else node.term
    applied = "" if node.last_applied is None else node.last_applied
    return node.id, node.role, term, node.raft_address, node.grpc_address, applied, node.problem


def _worker(worker: Worker) -> tuple[object, ...]:
    busy = f"{worker.busy} of {worker.capacity}"
    return worker.id, worker.state, busy, ",".join(worker.circuits), _ago(worker.last_heartbeat)


def _ago(moment: datetime | None) -> str:
    if moment is None:
        return ""
    return f"{max(0.0, (datetime.now(UTC) - moment).total_seconds()):.0f}s ago"
