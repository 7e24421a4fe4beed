"""A whole network under test: its real processes, who one can be to it, its record and its logs.

Nothing here sleeps for a fixed time: what takes a while is waited for with `eventually`.
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
from zkp.localcluster.process import end_remnants, remnants

T = TypeVar("T")

PATIENCE_S = 120.0  # a loaded machine takes its time; what hangs still fails
OUTAGE_S = float(os.environ.get("ZKP_TEST_OUTAGE_SECONDS", "15"))
"""How long a test keeps away what the network can do without; give 60 to keep it away for a minute."""
_POLL_S = 0.1
_LOG_LINES = 25
_PATIENT = {"COORDINATOR_RAFT_ELECTION_TIMEOUT": "1s"}  # so that a loaded machine elects nobody whom no test wanted
_SETTING_PREFIXES = ("ZKP_", "COORDINATOR_", "WORKER_", "GATEWAY_")

LIVE: list["Network"] = []
"""Networks that run now: what a failed test shows the logs of."""


def has_ended(process: psutil.Process) -> bool:
    """The process is gone, or is a zombie that its parent has not collected yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def eventually(what: str, found: Callable[[], T | None], seconds: float = PATIENCE_S) -> T:
    """What `found` returns once that is neither None nor False; fails naming `what` when it takes too long."""
    deadline = time.monotonic() + seconds
    while True:
        value = found()
        if value is not None and value is not False:
            return value
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(_POLL_S)


@contextlib.contextmanager
def frozen(*processes: psutil.Process) -> Iterator[None]:
    """Within this context the processes stand still; those that are gone at its end may be."""
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
    """A network that is up. `variables`: settings of its daemons, as in `COORDINATOR_TASKS_LEASE="3s"`.

    database_url: instead of the embedded Postgres; record_url: how the test reaches that server, if otherwise.
    """
    with pytest.MonkeyPatch.context() as environment:
        for name in os.environ:
            if name.startswith(_SETTING_PREFIXES):
                environment.delenv(name)
        for name, value in {**_PATIENT, **variables}.items():
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
    """Three coordinators, two workers, a gateway and their Postgres."""

    def __init__(self, cluster: LocalCluster, record_url: str) -> None:
        self.cluster = cluster
        self._record_url = record_url
        self.layout = cluster.layout

    # ------------------------------------------------------------ asking

    def address(self, member: str, purpose: str) -> str:
        """HOST:PORT; purposes are those of the cluster's profile ("raft", "grpc", "health", …)."""
        return self.cluster.profile.addresses[member][purpose]

    def https(self, identity: str = ADMIN) -> HttpsCaller:
        """Calls as one of the cluster's own members."""
        return HttpsCaller(self.layout.identity(identity))

    def health(self, member: str) -> Mapping[str, Any]:
        """What /health says, with `code`, its HTTP status (0: no answer)."""
        answer = self.https().get(self.address(member, "health"), "/health", timeout=5.0)
        return {"code": answer.status, **answer.document}

    def leader(self) -> Leader:
        """Who leads, once somebody does."""
        return self.cluster.wait_for_leader(PATIENCE_S)

    def views(self) -> dict[str, tuple[str | None, int]]:
        """What each coordinator says: node → (leader, term)."""
        raft = {name: self.health(name).get("raft", {}) for name in COORDINATORS}
        return {name: (view.get("leader"), view.get("term", 0)) for name, view in raft.items()}

    def agreed(self) -> tuple[str, int]:
        """(leader, term) once every coordinator says the same."""

        def same() -> tuple[str, int] | None:
            views = set(self.views().values())
            leader, term = next(iter(views))
            return (leader, term) if len(views) == 1 and leader is not None else None

        return eventually("agreement on a leader", same)

    @contextlib.asynccontextmanager
    async def client(self, identity: str = CLIENT) -> AsyncIterator[TaskClient]:
        """The client library, patient enough for any failover."""
        reach = ClusterTarget(self.cluster.profile.coordinators, self.layout.identity(identity))
        async with reach.connect() as connection:
            yield TaskClient(connection, timeout=PATIENCE_S)

    @contextlib.asynccontextmanager
    async def admin(self) -> AsyncIterator[AdminClient]:
        """The operator's side of it."""
        reach = ClusterTarget(self.cluster.profile.coordinators, self.layout.identity(ADMIN))
        async with reach.connect() as connection:
            yield AdminClient(connection, timeout=PATIENCE_S)

    # ------------------------------------------------------------ processes

    def process(self, member: str) -> psutil.Process:
        """The member's main process."""
        pid = next(found.pid for found in self.cluster.members() if found.name == member)
        assert pid is not None, f"{member} is down"
        return psutil.Process(pid)

    def provers(self, *workers: str) -> list[psutil.Process]:
        """The processes in which these workers prove."""
        children = [child for worker in workers for child in self.process(worker).children()]
        found = [child for child in children if "worker.prover" in child.cmdline()]
        assert len(found) == len(workers), f"{workers} have provers {found}"
        return found

    def kill_everything(self) -> None:
        """SIGKILL to every process at once, Postgres and its sessions included."""
        found = remnants(self.layout.root)
        for process in found:
            process.send(signal.SIGKILL)
        for process in found:
            assert process.wait(PATIENCE_S)

    @contextlib.contextmanager
    def unmoved(self) -> Iterator[None]:
        """Whatever happens in this context: afterwards the same node leads in the same term, every process is the one
        that it was, and a proof still goes through."""
        before = self.agreed(), self.cluster.members()
        yield
        assert (self.agreed(), self.cluster.members()) == before
        gateway, caller = self.address(GATEWAY, "https"), self.https(CLIENT)
        answer = caller.post(gateway, "/api/v1/tasks/addition", {"a": 20, "b": 22})
        task = caller.get(gateway, f"/api/v1/tasks/{answer.document['id']}?wait=60", timeout=70).document
        assert (task["state"], task["public_inputs"]) == ("completed", ["42"])

    def wait_until_ready(self, member: str) -> None:
        """The member says that it can serve."""
        address = self.address(member, "health")
        eventually(f"{member} ready", lambda: self.https().ready(address))

    def end(self) -> None:
        """Stop everything, whatever state it is in, and keep the logs alone."""
        end_remnants(self.layout.root)
        self.cluster.down()
        assert remnants(self.layout.root) == []
        shutil.rmtree(self.layout.postgres, ignore_errors=True)

    # ------------------------------------------------------------ record and logs

    def connect(self) -> psycopg.Connection[DictRow]:
        """A session of the test's own at the record's database, as its superuser."""
        return psycopg.connect(self._record_url, row_factory=dict_row)

    def rows(self, statement: str, *values: object) -> list[DictRow]:
        """What Postgres answers to a query of the test's own."""
        with self.connect() as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def log(self, member: str, start: int = 0) -> str:
        """What a daemon has logged, from a position that `log_size` gave before."""
        with self.layout.log(member).open("rb") as file:
            file.seek(start)
            return file.read().decode(errors="replace")

    def log_size(self, member: str) -> int:
        """Where the log ends now."""
        return self.layout.log(member).stat().st_size

    def last_lines(self) -> str:
        """The ends of all logs, for whoever has to find out why a test failed."""
        parts = []
        for member in (*COORDINATORS, "worker-1", "worker-2", GATEWAY, POSTGRES):
            lines = [line for line in tail(self.layout.log(member), 400) if "cygrpc" not in line]
            parts.append("\n".join([f"---- {member}", *lines[-_LOG_LINES:]]))
        return "\n".join(parts)
