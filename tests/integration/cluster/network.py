"""A complete network under test: its processes, clients, database and logs.

Nothing here sleeps for a fixed time; `eventually` waits for conditions.
"""

import contextlib
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import psutil
import psycopg
import pytest
from psycopg.rows import DictRow, dict_row

from zkp.cli.target import ClusterTarget
from zkp.client.admin import AdminClient
from zkp.client.tasks import TaskClient
from zkp.localcluster.cluster import LocalCluster
from zkp.localcluster.https import HttpsCaller, Leader
from zkp.localcluster.layout import ADMIN, CLIENT, COORDINATORS, GATEWAY, POSTGRES
from zkp.localcluster.logs import tail
from zkp.localcluster.process import kill_orphans, orphans

T = TypeVar("T")

WAIT_TIMEOUT_S = 120.0  # generous, for a loaded machine; what hangs still fails
OUTAGE_S = float(os.environ.get("ZKP_TEST_OUTAGE_SECONDS", "15"))
"""Duration of the outages that tests cause."""
_POLL_S = 0.1
_LOG_LINES = 25
_STABLE_ELECTIONS = {
    "COORDINATOR_RAFT_ELECTION_TIMEOUT": "1s"
}  # so that a loaded machine causes no unwanted elections
_SETTING_PREFIXES = ("ZKP_", "COORDINATOR_", "WORKER_", "GATEWAY_")

LIVE: list["Network"] = []
"""Running networks, whose logs are shown with a failed test."""


def has_ended(process: psutil.Process) -> bool:
    """Return whether the process has ended; it may be a zombie that has not been reaped."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def eventually(what: str, found: Callable[[], T | None], seconds: float = WAIT_TIMEOUT_S) -> T:
    """Wait until `found` returns neither None nor False, and return its result; `what` names it in the failure."""
    deadline = time.monotonic() + seconds
    while True:
        value = found()
        if value is not None and value is not False:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(_POLL_S)


@contextlib.contextmanager
def frozen(*processes: psutil.Process) -> Iterator[None]:
    """Suspend the processes while the context lasts; they may have ended by its end."""
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


@contextlib.contextmanager
def running(
    directory: Path,
    keys: Path,
    *,
    database_url: str | None = None,
    record_url: str | None = None,
    workers: int = 2,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Iterator["Network"]:
    """Run a network.

    Args:
        database_url: PostgreSQL server to use instead of the embedded one.
        record_url: URL by which the test connects to that server, if different.
        variables: settings of the daemons, such as `COORDINATOR_TASKS_LEASE="3s"`.
    """
    with pytest.MonkeyPatch.context() as environment:
        for name in os.environ:
            if name.startswith(_SETTING_PREFIXES):
                environment.delenv(name)
        for name, value in {**_STABLE_ELECTIONS, **variables}.items():
            environment.setenv(name, value)
        cluster = LocalCluster(directory, workers=workers, keys=keys, database_url=database_url)
        network = Network(cluster, record_url or cluster.database_url)
        try:
            network.cluster.up()
            LIVE.append(network)
            yield network
        except BaseException as error:
            error.add_note(network.last_lines())
            raise
        finally:
            if network in LIVE:
                LIVE.remove(network)
            network.end()


class Network:
    """Three coordinators, two workers, a gateway and PostgreSQL."""

    def __init__(self, cluster: LocalCluster, record_url: str) -> None:
        self.cluster = cluster
        self._record_url = record_url
        self.layout = cluster.layout

    # ------------------------------------------------------------ queries

    def address(self, member: str, purpose: str) -> str:
        """Return HOST:PORT; purposes are those of the profile ("raft", "grpc", "health", …)."""
        return self.cluster.profile.addresses[member][purpose]

    def https(self, identity: str = ADMIN) -> HttpsCaller:
        """Return an HTTPS client with a member's identity."""
        return HttpsCaller(self.layout.identity(identity))

    def health(self, member: str) -> Mapping[str, Any]:
        """Return the /health document, with the HTTP status as `code` (0: no answer)."""
        answer = self.https().get(self.address(member, "health"), "/health", timeout=5.0)
        return {"code": answer.status, **answer.document}

    def leader(self) -> Leader:
        """Wait for a leader and return it."""
        return self.cluster.wait_for_leader(WAIT_TIMEOUT_S)

    def views(self) -> dict[str, tuple[str | None, int]]:
        """Return each coordinator's view: node → (leader, term)."""
        raft = {name: self.health(name).get("raft", {}) for name in COORDINATORS}
        return {name: (view.get("leader"), view.get("term", 0)) for name, view in raft.items()}

    def agreed(self) -> tuple[str, int]:
        """Wait until all coordinators report the same (leader, term), and return it."""

        def same() -> tuple[str, int] | None:
            views = set(self.views().values())
            leader, term = next(iter(views))
            return (leader, term) if len(views) == 1 and leader is not None else None

        return eventually("agreement on a leader", same)

    @contextlib.asynccontextmanager
    async def client(self, identity: str = CLIENT) -> AsyncIterator[TaskClient]:
        """Return a task client whose timeout exceeds any failover."""
        target = ClusterTarget(self.cluster.profile.coordinators, self.layout.identity(identity))
        async with target.connect() as connection:
            yield TaskClient(connection, timeout=WAIT_TIMEOUT_S)

    @contextlib.asynccontextmanager
    async def admin(self) -> AsyncIterator[AdminClient]:
        """Return an admin client."""
        target = ClusterTarget(self.cluster.profile.coordinators, self.layout.identity(ADMIN))
        async with target.connect() as connection:
            yield AdminClient(connection, timeout=WAIT_TIMEOUT_S)

    # ------------------------------------------------------------ processes

    def process(self, member: str) -> psutil.Process:
        """Return the member's main process."""
        pid = next(found.pid for found in self.cluster.members() if found.name == member)
        assert pid is not None, f"{member} is down"
        return psutil.Process(pid)

    def provers(self, *workers: str) -> list[psutil.Process]:
        """Return the prover processes of these workers."""
        children = [child for worker in workers for child in self.process(worker).children()]
        found = [child for child in children if "worker.prover" in child.cmdline()]
        assert len(found) == len(workers), f"{workers} have provers {found}"
        return found

    def kill_everything(self) -> None:
        """Kill every process with SIGKILL, including PostgreSQL and its sessions."""
        found = orphans(self.layout.root)
        for process in found:
            process.send(signal.SIGKILL)
        for process in found:
            assert process.wait(WAIT_TIMEOUT_S)

    @contextlib.contextmanager
    def unmoved(self) -> Iterator[None]:
        """Assert at the end that leader, term and processes are the same as before, and that a task is proved."""
        before = self.agreed(), self.cluster.members()
        yield
        assert (self.agreed(), self.cluster.members()) == before
        gateway, caller = self.address(GATEWAY, "https"), self.https(CLIENT)
        answer = caller.post(gateway, "/api/v1/tasks/addition", {"a": 20, "b": 22})
        task = caller.get(gateway, f"/api/v1/tasks/{answer.document['id']}?wait=60", timeout=70).document
        assert (task["state"], task["public_inputs"]) == ("completed", ["42"])

    def wait_until_ready(self, member: str) -> None:
        """Wait until the member reports that it is ready."""
        address = self.address(member, "health")
        eventually(f"{member} ready", lambda: self.https().ready(address))

    def end(self) -> None:
        """Stop every process and delete the database; logs are kept."""
        kill_orphans(self.layout.root)
        self.cluster.down()
        assert orphans(self.layout.root) == []
        shutil.rmtree(self.layout.postgres, ignore_errors=True)

    # ------------------------------------------------------------ database and logs

    def connect(self) -> psycopg.Connection[DictRow]:
        """Open a superuser session at the database."""
        return psycopg.connect(self._record_url, row_factory=dict_row)

    def rows(self, statement: str, *values: object) -> list[DictRow]:
        """Return the rows of a query."""
        with self.connect() as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def log(self, member: str, start: int = 0) -> str:
        """Return a daemon's log from an offset that `log_size` returned."""
        with self.layout.log(member).open("rb") as file:
            file.seek(start)
            return file.read().decode(errors="replace")

    def log_size(self, member: str) -> int:
        """Return the current size of the log."""
        return self.layout.log(member).stat().st_size

    def last_lines(self) -> str:
        """Return the last lines of all logs, for the report of a failed test."""
        parts = []
        for member in (*COORDINATORS, "worker-1", "worker-2", GATEWAY, POSTGRES):
            lines = [line for line in tail(self.layout.log(member), 400) if "cygrpc" not in line]
            parts.append("\n".join([f"---- {member}", *lines[-_LOG_LINES:]]))
        return "\n".join(parts)
