"""What the demo shows at its end: every proof is valid, and every task was completed exactly once."""

import asyncio
import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr

from coordinator.config.database import DatabaseSettings
from coordinator.state.model import TaskState as Recorded
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

_RECORD_SECONDS = 30.0
_POLL_SECONDS = 0.2


def verified(cluster: LocalCluster, proofs: Sequence[Path]) -> str:
    """Export the verifying keys, and have another process check the proof files with nothing else."""
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
    """Hold what the cluster and PostgreSQL say against what was submitted."""
    submitted = sorted(task.id for task in tasks)
    listed = asyncio.run(_completed(cluster))
    if sorted(listed) != submitted:
        raise CommandFailed(f"the cluster lists {len(listed)} completed tasks, and {len(submitted)} were submitted")
    recorded = asyncio.run(_recorded(cluster, len(submitted)))
    return (
        f"{len(submitted)} tasks submitted, {len(listed)} completed, each with exactly one accepted result; "
        f"PostgreSQL holds the same {recorded}"
    )


async def _completed(cluster: LocalCluster) -> list[str]:
    reach = ClusterTarget(cluster.profile.coordinators, cluster.layout.identity(CLIENT))
    async with reach.connect() as connection:
        return [task.id async for task in TaskClient(connection).list(state=TaskState.COMPLETED)]


async def _recorded(cluster: LocalCluster, expected: int) -> int:
    """Completed tasks in PostgreSQL, each with exactly one accepted result; waits until it has caught up."""
    parameters = DatabaseSettings(url=SecretStr(cluster.database_url)).parameters()
    record = ProjectionReader(Database(parameters, application="zkp demo"), max_connections=1)
    give_up = time.monotonic() + _RECORD_SECONDS
    try:
        while True:
            summary = await record.summary()
            completed = summary.counts[Recorded.COMPLETED]
            if completed >= expected or time.monotonic() > give_up:
                break
            await asyncio.sleep(_POLL_SECONDS)
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
