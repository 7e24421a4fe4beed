"""`zkp local demo`: submits, proves and verifies tasks across a leader failure, in its own directory.

A failed step ends the demo with a one-line error; every process is stopped in any case.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from zkp.cli import output, requests, status, task_output
from zkp.cli.demo import checks
from zkp.cli.demo import gateway as demo_gateway
from zkp.cli.errors import CommandFailed, UsageProblem
from zkp.cli.submit import finished
from zkp.cli.target import ClusterTarget
from zkp.client.admin import AdminClient
from zkp.client.model import Accepted, Submission, Task, TaskState
from zkp.client.tasks import TaskClient
from zkp.localcluster.cluster import LocalCluster
from zkp.localcluster.layout import ADMIN, CLIENT

MERKLE_PROOFS, RANGE_PROOFS, ADDITIONS = 24, 4, 4
KILL_AFTER = 3
"""The number of completed proofs at which the leader is killed; most tasks are still queued then."""

_MARK = "demo"  # a file that marks the directory as a demo's, which the next demo deletes


@dataclass(frozen=True, slots=True)
class ProvedTasks:
    """The finished tasks, and the ids of those that were submitted over HTTPS."""

    tasks: list[Task]
    through_gateway: list[str]


def example_entries() -> list[str]:
    """Return 1,000 made-up addresses: the first 20 bytes of SHA-256("member N"), N from 1."""
    return [f"0x{hashlib.sha256(f'member {number}'.encode()).hexdigest()[:40]}" for number in range(1, 1001)]


def run(directory: Path, leaves: Path | None, *, database_url: str | None) -> None:
    """Run the demo in `directory`; raises `CommandFailed` or another error of the command.

    Args:
        leaves: list to prove membership of; None for the example's.
    """
    entries = example_entries() if leaves is None else requests.read_leaves(leaves)
    if len(entries) < MERKLE_PROOFS:
        raise UsageProblem(f"{leaves}: has {len(entries)} entries; the demo needs at least {MERKLE_PROOFS}")
    began = time.monotonic()
    cluster = LocalCluster(directory, database_url=database_url)
    with _interrupt_on_signals(), _fresh_directory(cluster):
        try:
            _run_steps(cluster, entries)
        finally:
            with _signals_ignored():
                cluster.down()
            _step(f"stopped every process; logs: {cluster.layout.root / 'logs'}")
    output.line(f"Proofs, verifying keys and data: {cluster.layout.root}")
    output.line(f"Done in {time.monotonic() - began:.0f} s")


def _run_steps(cluster: LocalCluster, entries: Sequence[str]) -> None:
    _step("starting 3 coordinators, 2 workers, the gateway and PostgreSQL, all over mutual TLS")
    cluster.up(output.line)
    outcome = asyncio.run(_prove(cluster, entries))
    unproved = [task for task in outcome.tasks if task.state is not TaskState.COMPLETED]
    if unproved:
        raise CommandFailed(f"{len(unproved)} tasks were not completed; the first: {task_output.change(unproved[0])}")
    _step("verifying every proof in a separate process, with the exported verifying keys")
    proofs = cluster.layout.root / "proofs"
    fetched = demo_gateway.fetch_proofs(cluster, outcome.through_gateway, proofs)
    others = [task for task in outcome.tasks if task.id not in outcome.through_gateway]
    written = [*task_output.write_proofs(others, proofs), *fetched]
    output.line(checks.verified(cluster, written))
    _step("cluster status after the killed node has restarted, and the tasks")
    cluster.up()
    status.show(status.query(ClusterTarget(cluster.profile.coordinators, cluster.layout.identity(ADMIN))))
    task_output.show(outcome.tasks, as_json=False)
    output.line(checks.exactly_once(cluster, outcome.tasks))


@contextlib.contextmanager
def _fresh_directory(cluster: LocalCluster) -> Iterator[None]:
    """Lock an empty directory; processes and files of an earlier demo are removed."""
    root = cluster.layout.root
    mark = root / _MARK
    if root.exists() and any(root.iterdir()):
        if not mark.exists():
            raise UsageProblem(f"{root}: contains something other than a demo; choose another --dir")
        with _locked(mark):
            cluster.down()
            shutil.rmtree(root)
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _locked(mark):
        yield


@contextlib.contextmanager
def _locked(mark: Path) -> Iterator[None]:
    with mark.open("a") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandFailed(
                f"another demo is running in {mark.parent}; wait for it, or give another --dir"
            ) from None
        yield


async def _prove(cluster: LocalCluster, entries: Sequence[str]) -> ProvedTasks:
    """Submit the tasks, kill the leader while most are queued, and wait until all have ended."""
    target = ClusterTarget(cluster.profile.coordinators, cluster.layout.identity(CLIENT))
    async with target.connect() as connection:
        client = TaskClient(connection)
        submissions = await asyncio.to_thread(_submissions, entries)
        _step(f"submitting {len(submissions)} tasks through the coordinators, and 2 through the gateway over HTTPS")
        ids = [task_id async for task_id in _accepted(client, submissions)]
        gateway = await asyncio.to_thread(demo_gateway.submit, cluster, entries)
        tasks: list[Task] = []
        with output.progress("proved", len(ids) + len(gateway), sys.stdout) as display:
            async for task in finished(client, [*ids, *gateway]):
                tasks.append(task)
                display.done(len(tasks))
                if len(tasks) == KILL_AFTER:
                    display.say(f"==> {await _kill_leader(cluster)}")
    return ProvedTasks(tasks, gateway)


def _submissions(entries: Sequence[str]) -> list[Submission]:
    """Return the demo's submissions: entries spread over the list, ranges and sums."""
    stride = len(entries) // MERKLE_PROOFS
    wanted: list[tuple[str, dict[str, object]]] = [
        ("merkle_proof", {"leaves": list(entries), "leaf_index": number * stride}) for number in range(MERKLE_PROOFS)
    ]
    wanted += [("range_proof", {"value": 21 + age, "min": 18, "max": 120}) for age in range(RANGE_PROOFS)]
    wanted += [("addition", {"a": 20 + number, "b": 22}) for number in range(ADDITIONS)]
    return [
        requests.submission(task_id, circuit, request, None)
        for task_id, (circuit, request) in zip(requests.task_ids(None, len(wanted)), wanted, strict=True)
    ]


async def _accepted(client: TaskClient, submissions: Sequence[Submission]) -> AsyncIterator[str]:
    async for submission, outcome in client.submit_many(submissions):
        if not isinstance(outcome, Accepted):
            raise CommandFailed(f"task {submission.task_id}: was rejected: {outcome}")
        yield outcome.task.id


async def _kill_leader(cluster: LocalCluster) -> str:
    """Kill the leader with SIGKILL, wait for the next one, restart the killed node; return a summary."""
    queued = await _queued(cluster)
    if not queued:
        raise CommandFailed("no task was queued when the leader was to be killed")
    before = await asyncio.to_thread(cluster.leader)
    if before is None:
        raise CommandFailed("no leader to kill")
    await asyncio.to_thread(cluster.kill, before.id)
    killed = time.monotonic()
    after = await asyncio.to_thread(cluster.wait_for_leader, other_than=before)
    seconds = time.monotonic() - killed
    await asyncio.to_thread(cluster.start, before.id)
    return (
        f"killed the leader {before.id} (term {before.term}) with {queued} tasks queued; "
        f"{after.id} became leader in term {after.term} after {seconds:.1f} s"
    )


async def _queued(cluster: LocalCluster) -> int:
    """Return the number of pending tasks."""
    async with ClusterTarget(cluster.profile.coordinators, cluster.layout.identity(ADMIN)).connect() as connection:
        found = await AdminClient(connection).cluster_status()
    return found.tasks.get(TaskState.PENDING, 0)


def _step(text: str) -> None:
    output.line(f"==> {text}")


@contextlib.contextmanager
def _interrupt_on_signals() -> Iterator[None]:
    """Handle SIGTERM and SIGHUP like SIGINT, so that every `finally` runs."""

    def interrupt(_: int, __: FrameType | None) -> None:
        signal.raise_signal(signal.SIGINT)

    with _handling((signal.SIGTERM, signal.SIGHUP), interrupt):
        yield


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    """Ignore signals, so that the shutdown is not interrupted."""
    with _handling((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN):
        yield


@contextlib.contextmanager
def _handling(
    numbers: Sequence[signal.Signals], handler: Callable[[int, FrameType | None], None] | signal.Handlers
) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
