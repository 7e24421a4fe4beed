"""Final checks of the demo: every proof is valid, and every task was completed exactly once."""

import asyncio
import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr

from coordinator.config.database import DatabaseSettings
from coordinator.state.model import TaskState as StoredState
from coordinator.store import Database, ProjectionError, ProjectionReader
from zkp.cli.errors import CommandFailed
from zkp.cli.target import ClusterTarget
from zkp.client.model import Task, TaskState
from zkp.client.tasks import TaskClient
from zkp.localcluster.cluster import LocalCluster
from zkp.localcluster.layout import CLIENT
from zkp.localcluster.process import python_module
from zkp.proofs import circuits
from zkp.proofs.keys import KeyStore

_PROJECTION_TIMEOUT_S = 30.0
_POLL_INTERVAL_S = 0.2


def verified(cluster: LocalCluster, proofs: Sequence[Path]) -> str:
    """Verify the proof files in another process, with only the exported verifying keys."""
    keys = cluster.layout.root / "verification"
    keys.mkdir()
    exported = [KeyStore(cluster.layout.keys).export(name, keys / f"{name}.json") for name in circuits.NAMES]
    arguments = [str(proof) for proof in proofs] + [part for key in exported for part in ("--key", str(key))]
    done = subprocess.run(
        python_module("zkp.cli", "verify", "--json", *arguments),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode != 0:
        raise CommandFailed(f"verification failed: {done.stderr.strip()}")
    valid = sum(1 for result in json.loads(done.stdout) if result["valid"])
    if valid != len(proofs):
        raise CommandFailed(f"{valid} of {len(proofs)} proofs were verified")
    return f"{valid} of {len(proofs)} proofs are valid"


def exactly_once(cluster: LocalCluster, tasks: Sequence[Task]) -> str:
    """Check the tasks in the cluster and in PostgreSQL against the submitted ones."""
    submitted = sorted(task.id for task in tasks)
    listed = asyncio.run(_completed(cluster))
    if sorted(listed) != submitted:
        raise CommandFailed(f"the cluster lists {len(listed)} completed tasks; {len(submitted)} were submitted")
    recorded = asyncio.run(_projected(cluster, len(submitted)))
    return (
        f"{len(submitted)} tasks submitted, {len(listed)} completed, each with exactly one accepted result; "
        f"PostgreSQL holds the same {recorded}"
    )


async def _completed(cluster: LocalCluster) -> list[str]:
    target = ClusterTarget(cluster.profile.coordinators, cluster.layout.identity(CLIENT))
    async with target.connect() as connection:
        return [task.id async for task in TaskClient(connection).list(state=TaskState.COMPLETED)]


async def _projected(cluster: LocalCluster, expected: int) -> int:
    """Return the number of completed tasks in PostgreSQL, once the projection has caught up.

    Each of them must have exactly one accepted result.
    """
    parameters = DatabaseSettings(url=SecretStr(cluster.database_url)).parameters()
    record = ProjectionReader(Database(parameters, application="zkp demo"), max_connections=1)
    deadline = time.monotonic() + _PROJECTION_TIMEOUT_S
    try:
        while True:
            summary = await record.summary()
            completed = summary.counts[StoredState.COMPLETED]
            if completed >= expected or time.monotonic() > deadline:
                break
            await asyncio.sleep(_POLL_INTERVAL_S)
    except ProjectionError as error:
        raise CommandFailed(f"PostgreSQL could not be queried: {error}") from None
    finally:
        await record.close()
    if not completed == summary.accepted_once == expected:
        raise CommandFailed(
            f"PostgreSQL holds {completed} completed tasks, {summary.accepted_once} of them with exactly one "
            f"accepted result; {expected} were submitted"
        )
    return completed
