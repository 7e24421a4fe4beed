"""A cluster on one machine: create, start, query, kill and stop. Used by `zkp local`, the demo and tests.

Every method that changes something holds the directory's lock while it runs. The profile on disk is the only state,
so that a later process can continue from it.
"""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zkp.localcluster import prometheus, setup
from zkp.localcluster.configuration import WORKER_DRAIN_S
from zkp.localcluster.errors import LocalClusterError
from zkp.localcluster.https import HttpsCaller, Leader, leader_of
from zkp.localcluster.layout import ADMIN, COORDINATORS, DEFAULT_DIRECTORY, POSTGRES, PROMETHEUS, Layout
from zkp.localcluster.logs import last_error
from zkp.localcluster.postgres import EmbeddedPostgres
from zkp.localcluster.process import MARKER, ProcessRecord, kill_orphans, processes_in, python_module, spawn
from zkp.localcluster.profile import ClusterProfile
from zkp.localcluster.prometheus import Target

Report = Callable[[str], None]

DATABASE_VARIABLE = "ZKP_DATABASE_URL"
"""Passes the server's URL, with its password, to the coordinators: neither as an argument nor in a file."""

_POLL_INTERVAL_S = 0.1
_START_TIMEOUT_S = 60.0
_SLOW_START_S = 5.0  # a longer start is reported with its duration
_SHUTDOWN_S = 30.0  # a worker releases its leases after the drain; a daemon that hangs exits by then
_GRACE_S = WORKER_DRAIN_S + _SHUTDOWN_S
_SUPERVISOR_VARIABLES = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "INVOCATION_ID", "JOURNAL_STREAM"}
)


def _silent(_: str) -> None:
    """Discard a report."""


@dataclass(frozen=True, slots=True)
class LocalMember:
    """A process of the cluster; `pid` is None while it is down."""

    name: str
    pid: int | None
    addresses: dict[str, str]
    log: Path


class LocalCluster:
    """Three coordinators, workers, a gateway and PostgreSQL, all in one directory.

    Every failure is a `LocalClusterError`.

    Args:
        directory: directory of the cluster.
        workers: number of workers.
        database_url: PostgreSQL server to use instead of the embedded one.
        keys: directory of existing circuit keys; by default keys are made in the cluster's directory.
    """

    def __init__(
        self,
        directory: Path = DEFAULT_DIRECTORY,
        *,
        workers: int = 2,
        database_url: str | None = None,
        keys: Path | None = None,
    ) -> None:
        self.layout = Layout(directory.resolve())
        self._workers = workers
        self._database_url = database_url
        self._keys = keys or self.layout.keys

    # ---------------------------------------------------------------- queries

    @property
    def profile(self) -> ClusterProfile:
        """Addresses and processes; raises `LocalClusterError` before the first `up`."""
        profile = ClusterProfile.load(self.layout.profile)
        if profile is None:
            raise LocalClusterError(f"no local cluster in {self.layout.root}; run `zkp local up`")
        return profile

    @property
    def database_url(self) -> str:
        """URL of the database: the given server, or the Unix socket of the embedded one."""
        return self._database_url or EmbeddedPostgres(self.layout.postgres).url

    def members(self) -> list[LocalMember]:
        """Return every process of the cluster in start order; empty before the first `up`."""
        profile = ClusterProfile.load(self.layout.profile)
        if profile is None:
            return []
        addresses = {**profile.addresses, PROMETHEUS: {"http": prometheus.address(profile)}}
        return [
            LocalMember(name, _pid(profile, name), dict(addresses.get(name, {})), self.layout.log(name))
            for name in _all_processes(profile)
        ]

    def running(self) -> bool:
        """Return whether any process of the cluster runs."""
        return any(member.pid is not None for member in self.members())

    def leader(self) -> Leader | None:
        """Return the current leader according to the nodes' health reports."""
        profile = self.profile
        probe = self._probe()
        alive = [name for name in COORDINATORS if _pid(profile, name) is not None]
        reports = {name: probe.get(profile.addresses[name]["health"], "/health") for name in alive}
        return leader_of({name: report.document for name, report in reports.items()})

    def wait_for_leader(self, seconds: float = _START_TIMEOUT_S, *, other_than: Leader | None = None) -> Leader:
        """Wait for a leader, with a later term than `other_than` if it is given."""
        found: list[Leader] = []

        def elected() -> bool:
            leader = self.leader()
            if leader is not None and (other_than is None or leader.term > other_than.term):
                found.append(leader)
            return bool(found)

        self._wait("leader election", seconds, elected)
        return found[0]

    # ---------------------------------------------------------------- starting

    def up(self, report: Report = _silent) -> bool:
        """Start the processes that are down and wait until all are ready; False if none was down.

        If the call fails or is interrupted, the processes that it started are stopped.
        """
        with self._exclusive():
            before = ClusterProfile.load(self.layout.profile)
            if before is not None and any(_pid(before, name) for name in _start_order(before)):
                return self._start_missing(before, report)
            kill_orphans(self.layout.root)
            report(f"preparing {self.layout.root}")
            settings = setup.Plan(
                self.layout, self._keys, self._workers, embedded_postgres=self._database_url is None
            )
            with setup.prepared(settings, before, report) as profile:
                profile.save(self.layout.profile)
                return self._start_missing(profile, report)

    def start(self, name: str) -> None:
        """Start one process that is down, without waiting until it is ready."""
        with self._exclusive():
            self._require_known(name)
            if _pid(self.profile, name) is None:
                self._start(name)

    def monitor(self, seconds: float = _START_TIMEOUT_S) -> list[Target]:
        """Start Prometheus, wait until it scrapes every running member, and return its targets.

        `down` stops it too.
        """
        with self._exclusive():
            profile = self.profile
            if not any(_pid(profile, name) for name in profile.members):
                raise LocalClusterError("the cluster is down; run `zkp local up`")
            if _pid(profile, PROMETHEUS) is None:
                self._start(PROMETHEUS)
            address = prometheus.address(profile)
            expected = {name for name in profile.members if _pid(profile, name)}

            def scraped() -> bool:
                return {target.node for target in prometheus.targets(address) if target.health == "up"} >= expected

            self._wait("the first scrape of every member", seconds, scraped)
            return prometheus.targets(address)

    def _start_missing(self, profile: ClusterProfile, report: Report) -> bool:
        missing = [name for name in _start_order(profile) if _pid(profile, name) is None]
        began: dict[str, float] = {}
        try:
            for name in missing:
                report(f"starting {name}")
                began[name] = time.monotonic()
                self._start(name)
                if name == POSTGRES:
                    self._wait_for_postgres()
                    report(f"{name} is ready{_after(began[name])}")
            self._wait_until_serving(began, report)
        except BaseException:
            self._stop(missing, _silent)
            raise
        return bool(missing)

    def _start(self, name: str) -> None:
        record = spawn(self._command(name), log=self.layout.log(name), environ=self._environment(name))
        self.profile.with_process(name, record).save(self.layout.profile)

    def _command(self, name: str) -> list[str]:
        if name == POSTGRES:
            return self._postgres_command()
        if name == PROMETHEUS:
            return prometheus.prepare(self.layout, self.profile)
        return self._daemon_command(name)

    def _daemon_command(self, name: str) -> list[str]:
        return python_module(name.partition("-")[0], "--config", str(self.layout.config(name)))

    def _postgres_command(self) -> list[str]:
        postgres = EmbeddedPostgres(self.layout.postgres)
        postgres.initialise()
        # After a SIGKILL of the server its children exit with a delay; until then they use the data directory.
        deadline = time.monotonic() + _GRACE_S
        for record in processes_in(self.layout.postgres):
            record.wait(max(0.0, deadline - time.monotonic()))
        postgres.remove_empty_lock_file()
        return postgres.command()

    def _environment(self, name: str) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key not in _SUPERVISOR_VARIABLES}
        kept.pop(DATABASE_VARIABLE, None)
        if name in COORDINATORS:
            kept[DATABASE_VARIABLE] = self.database_url
        return {**kept, MARKER: str(self.layout.root)}

    # ---------------------------------------------------------------- waiting

    def _wait_for_postgres(self) -> None:
        postgres = EmbeddedPostgres(self.layout.postgres)
        pid = _pid(self.profile, POSTGRES) or 0
        self._wait("the start of postgres", _START_TIMEOUT_S, lambda: postgres.ready(pid))

    def _restart_exited(self, began: dict[str, float], report: Report) -> None:
        """Start processes that ran when `up` began and have exited since: someone was stopping them."""
        for name in self.profile.members:
            if name not in began and _pid(self.profile, name) is None:
                report(f"starting {name}, which has exited")
                began[name] = time.monotonic()
                self._start(name)

    def _wait_until_serving(self, began: dict[str, float], report: Report) -> None:
        leader = self.wait_for_leader()
        report(f"{leader.id} is leader in term {leader.term}")
        probe = self._probe()
        waiting = {name: addresses["health"] for name, addresses in self.profile.addresses.items()}

        def another_serves() -> bool:
            self._restart_exited(began, report)
            serving = [name for name, address in waiting.items() if probe.ready(address)]
            for name in serving:
                del waiting[name]
                report(f"{name} is ready{_after(began.get(name))}")
            return bool(serving)

        while waiting:
            self._wait(f"the start of {', '.join(waiting)}", _START_TIMEOUT_S, another_serves)

    def _wait(self, what: str, seconds: float, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        expected = [name for name in self.profile.processes if _pid(self.profile, name) is not None]
        while not done():
            profile = self.profile
            for name in expected:
                if _pid(profile, name) is None:
                    log = self.layout.log(name)
                    raise LocalClusterError(f"{name} exited: {last_error(log)} (log: {log})")
            if time.monotonic() > deadline:
                raise LocalClusterError(f"{what}: takes longer than {seconds:.0f} s; see {self.layout.root / 'logs'}")
            time.sleep(_POLL_INTERVAL_S)

    # ---------------------------------------------------------------- stopping

    def down(self, report: Report = _silent) -> bool:
        """Stop every process in reverse order, and those left by a crash; False if none ran."""
        with self._exclusive():
            profile = ClusterProfile.load(self.layout.profile)
            names = _all_processes(profile) if profile is not None else ()
            stopped = self._stop(names, report)
            return kill_orphans(self.layout.root) > 0 or stopped

    def stop(self, name: str, grace_s: float = _GRACE_S) -> None:
        """Terminate one process, and kill it after the grace period."""
        with self._exclusive():
            self._require_known(name)
            self._stop([name], _silent, grace_s)

    def kill(self, name: str) -> None:
        """Kill one process with SIGKILL, but not its children."""
        with self._exclusive():
            self._require_known(name)
            profile = self.profile
            record = profile.processes.get(name)
            if record is not None:
                record.stop(_GRACE_S, first=signal.SIGKILL)
                profile.without_process(name).save(self.layout.profile)

    def _stop(self, names: Sequence[str], report: Report, grace_s: float = _GRACE_S) -> bool:
        profile = ClusterProfile.load(self.layout.profile)
        if profile is None:
            return False
        stopped = False
        for group in _stopping_groups(names):
            records = {name: profile.processes[name] for name in group if name in profile.processes}
            asked = {name: record for name, record in records.items() if record.send(_stop_signal(name))}
            deadline = time.monotonic() + grace_s
            for name, record in asked.items():
                if not record.wait(max(0.0, deadline - time.monotonic())):
                    record.stop(_GRACE_S, first=signal.SIGKILL)
                    report(f"{name} did not stop and was killed")
                else:
                    report(f"{name} stopped")
            stopped = stopped or bool(asked)
            for name in records:
                profile = profile.without_process(name)
            profile.save(self.layout.profile)
        if POSTGRES in names:
            EmbeddedPostgres(self.layout.postgres).remove_socket_directory()
        return stopped

    # ---------------------------------------------------------------- internals

    def _probe(self) -> HttpsCaller:
        return HttpsCaller(self.layout.identity(ADMIN))

    def _require_known(self, name: str) -> None:
        names = _all_processes(self.profile)
        if name not in names:
            raise LocalClusterError(f"{name}: unknown process; give one of {', '.join(names)}")

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        try:
            self.layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LocalClusterError(f"{self.layout.root}: cannot be used: {error.strerror}") from error
        with contextlib.closing(os.fdopen(descriptor)) as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LocalClusterError(
                    f"another `zkp local` command is running in {self.layout.root}; wait for it"
                ) from None
            yield


def _start_order(profile: ClusterProfile) -> tuple[str, ...]:
    return ((POSTGRES,) if profile.embedded_postgres else ()) + profile.members


def _all_processes(profile: ClusterProfile) -> tuple[str, ...]:
    """Return the name of every process, with Prometheus if it was started."""
    return (*_start_order(profile), *((PROMETHEUS,) if PROMETHEUS in profile.processes else ()))


def _pid(profile: ClusterProfile, name: str) -> int | None:
    record: ProcessRecord | None = profile.processes.get(name)
    return record.pid if record is not None and record.alive() else None


def _after(began: float | None) -> str:
    """Return the duration of a slow start as text; empty for a fast one or a process that ran already.

    Args:
        began: start time of the monotonic clock; None if the process ran already.
    """
    if began is None or (seconds := time.monotonic() - began) < _SLOW_START_S:
        return ""
    return f" after {seconds:.0f} s"


def _stop_signal(name: str) -> signal.Signals:
    # PostgreSQL: SIGTERM waits for all clients to disconnect, SIGINT ends their sessions (pg_ctl, smart and fast).
    return signal.SIGINT if name == POSTGRES else signal.SIGTERM


def _stopping_groups(names: Sequence[str]) -> list[list[str]]:
    """Group processes in stop order; those of one group are stopped at the same time."""
    groups: dict[str, list[str]] = {"prometheus": [], "gateway": [], "worker": [], "coordinator": [], "postgres": []}
    for name in names:
        groups[name.partition("-")[0]].append(name)
    return [group for group in groups.values() if group]
