"""The cluster on one machine: made, started, asked, hurt and stopped. `zkp local`, demo and tests use it.

Every method that changes something holds the directory's lock for as long as it works; the profile on disk is
the only memory, so that any later process can carry on where this one ended.
"""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zkp.localcluster import prometheus, setup
from zkp.localcluster.configuration import WORKER_DRAIN_S
from zkp.localcluster.errors import LocalClusterError
from zkp.localcluster.https import HttpsCaller, Leader, leader_of
from zkp.localcluster.layout import ADMIN, COORDINATORS, DEFAULT_DIRECTORY, POSTGRES, PROMETHEUS, Layout
from zkp.localcluster.logs import last_words
from zkp.localcluster.postgres import EmbeddedPostgres
from zkp.localcluster.process import MARKER, ProcessRecord, end_remnants, python_module, spawn, working_in
from zkp.localcluster.profile import ClusterProfile
from zkp.localcluster.prometheus import Target

Report = Callable[[str], None]

DATABASE_VARIABLE = "ZKP_DATABASE_URL"
"""Carries the server's URL, password and all, to the coordinators: never an argument, never a file."""

_POLL_SECONDS = 0.1
_START_SECONDS = 60.0
_SLOW_S = 5.0  # a start that takes longer is reported with its time
_ENDING_S = 30.0  # after its drain a worker hands back what it holds; a daemon that is stuck ends itself by then
_GRACE_S = WORKER_DRAIN_S + _ENDING_S
_SUPERVISOR_VARIABLES = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "INVOCATION_ID", "JOURNAL_STREAM"}
)


def _silent(_: str) -> None:
    """Report to nobody."""


@dataclass(frozen=True, slots=True)
class LocalMember:
    """A process of the cluster as `status` shows it; `pid` is None while it is down."""

    name: str
    pid: int | None
    addresses: dict[str, str]
    log: Path


class LocalCluster:
    """Three coordinators, workers, a gateway and their Postgres, all below one directory.

    `database_url` replaces the embedded Postgres; `keys` is a directory of circuit keys made before.
    Every failure is a `LocalClusterError`.
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

    # ---------------------------------------------------------------- asking

    @property
    def profile(self) -> ClusterProfile:
        """Addresses and processes; raises LocalClusterError before the first `up`."""
        profile = ClusterProfile.load(self.layout.profile)
        if profile is None:
            raise LocalClusterError(f"no local cluster in {self.layout.root}: start one with `zkp local up`")
        return profile

    @property
    def database_url(self) -> str:
        """Where the record is kept: the given server, or the embedded one's Unix socket."""
        return self._database_url or EmbeddedPostgres(self.layout.postgres).url

    def members(self) -> list[LocalMember]:
        """Every process of the cluster in the order of start; empty before the first `up`."""
        profile = ClusterProfile.load(self.layout.profile)
        if profile is None:
            return []
        addresses = {**profile.addresses, PROMETHEUS: {"http": prometheus.address(profile)}}
        return [
            LocalMember(name, _pid(profile, name), dict(addresses.get(name, {})), self.layout.log(name))
            for name in _everybody(profile)
        ]

    def running(self) -> bool:
        """True while any process of it runs."""
        return any(member.pid is not None for member in self.members())

    def leader(self) -> Leader | None:
        """The node that leads now, as far as the nodes say."""
        profile = self.profile
        probe = self._probe()
        alive = [name for name in COORDINATORS if _pid(profile, name) is not None]
        reports = {name: probe.get(profile.addresses[name]["health"], "/health") for name in alive}
        return leader_of({name: report.document for name, report in reports.items()})

    def wait_for_leader(self, seconds: float = _START_SECONDS, *, other_than: Leader | None = None) -> Leader:
        """Wait for a leader, and after `other_than` for one of a later term."""
        found: list[Leader] = []

        def elected() -> bool:
            leader = self.leader()
            if leader is not None and (other_than is None or leader.term > other_than.term):
                found.append(leader)
            return bool(found)

        self._wait("the election of a leader", seconds, elected)
        return found[0]

    # ---------------------------------------------------------------- starting

    def up(self, report: Report = _silent) -> bool:
        """Start what does not run and wait until everything serves; False when nothing had to be started.

        What this call started is stopped again when it fails or is interrupted.
        """
        with self._exclusive():
            before = ClusterProfile.load(self.layout.profile)
            if before is not None and any(_pid(before, name) for name in _order(before)):
                return self._complete(before, report)
            end_remnants(self.layout.root)
            report(f"preparing {self.layout.root}")
            settings = setup.Plan(
                self.layout, self._keys, self._workers, embedded_postgres=self._database_url is None
            )
            with setup.prepared(settings, before, report) as profile:
                profile.save(self.layout.profile)
                return self._complete(profile, report)

    def start(self, name: str) -> None:
        """Start one process that is down; it may not serve yet when this returns."""
        with self._exclusive():
            self._known(name)
            if _pid(self.profile, name) is None:
                self._start(name)

    def monitor(self, seconds: float = _START_SECONDS) -> list[Target]:
        """Have Prometheus watch the cluster, and wait until it scrapes every member; its targets.

        `down` stops it too. What is down is not waited for.
        """
        with self._exclusive():
            profile = self.profile
            if not any(_pid(profile, name) for name in profile.members):
                raise LocalClusterError("the cluster is down, and there is nothing to watch: `zkp local up`")
            if _pid(profile, PROMETHEUS) is None:
                self._start(PROMETHEUS)
            place = prometheus.address(profile)
            expected = {name for name in profile.members if _pid(profile, name)}

            def scraped() -> bool:
                return {target.node for target in prometheus.targets(place) if target.health == "up"} >= expected

            self._wait("scraping every member", seconds, scraped)
            return prometheus.targets(place)

    def _complete(self, profile: ClusterProfile, report: Report) -> bool:
        missing = [name for name in _order(profile) if _pid(profile, name) is None]
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
        # After a SIGKILL its children need a moment to notice; until then the data are still in use.
        deadline = time.monotonic() + _GRACE_S
        for record in working_in(self.layout.postgres):
            record.wait(max(0.0, deadline - time.monotonic()))
        postgres.forget_half_start()
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
        self._wait("the start of postgres", _START_SECONDS, lambda: postgres.ready(pid))

    def _wait_until_serving(self, began: Mapping[str, float], report: Report) -> None:
        leader = self.wait_for_leader()
        report(f"{leader.id} leads in term {leader.term}")
        probe = self._probe()
        waiting = {name: addresses["health"] for name, addresses in self.profile.addresses.items()}

        def another_serves() -> bool:
            serving = [name for name, address in waiting.items() if probe.ready(address)]
            for name in serving:
                del waiting[name]
                report(f"{name} is ready{_after(began.get(name))}")
            return bool(serving)

        while waiting:
            self._wait(f"the start of {', '.join(waiting)}", _START_SECONDS, another_serves)

    def _wait(self, what: str, seconds: float, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + seconds
        expected = [name for name in self.profile.processes if _pid(self.profile, name) is not None]
        while not done():
            profile = self.profile
            for name in expected:
                if _pid(profile, name) is None:
                    log = self.layout.log(name)
                    raise LocalClusterError(f"{name} ended: {last_words(log)} (its log: {log})")
            if time.monotonic() > deadline:
                raise LocalClusterError(f"{what} takes longer than {seconds:.0f} s: see {self.layout.root / 'logs'}")
            time.sleep(_POLL_SECONDS)

    # ---------------------------------------------------------------- stopping

    def down(self, report: Report = _silent) -> bool:
        """Stop everything in reverse order, and what a crash left behind; False when nothing ran."""
        with self._exclusive():
            profile = ClusterProfile.load(self.layout.profile)
            names = _everybody(profile) if profile is not None else ()
            stopped = self._stop(names, report)
            return end_remnants(self.layout.root) > 0 or stopped

    def stop(self, name: str, grace_seconds: float = _GRACE_S) -> None:
        """Ask one process to stop, and insist after the grace period."""
        with self._exclusive():
            self._known(name)
            self._stop([name], _silent, grace_seconds)

    def kill(self, name: str) -> None:
        """SIGKILL one process, and nothing of what it started."""
        with self._exclusive():
            self._known(name)
            profile = self.profile
            record = profile.processes.get(name)
            if record is not None:
                record.stop(_GRACE_S, first=signal.SIGKILL)
                profile.without_process(name).save(self.layout.profile)

    def _stop(self, names: Sequence[str], report: Report, grace_seconds: float = _GRACE_S) -> bool:
        profile = ClusterProfile.load(self.layout.profile)
        if profile is None:
            return False
        stopped = False
        for group in _stopping_groups(names):
            records = {name: profile.processes[name] for name in group if name in profile.processes}
            asked = {name: record for name, record in records.items() if record.send(_polite(name))}
            deadline = time.monotonic() + grace_seconds
            for name, record in asked.items():
                if not record.wait(max(0.0, deadline - time.monotonic())):
                    record.stop(_GRACE_S, first=signal.SIGKILL)
                    report(f"{name} had to be killed")
                else:
                    report(f"{name} stopped")
            stopped = stopped or bool(asked)
            for name in records:
                profile = profile.without_process(name)
            profile.save(self.layout.profile)
        if POSTGRES in names:
            EmbeddedPostgres(self.layout.postgres).forget_socket()
        return stopped

    # ---------------------------------------------------------------- within

    def _probe(self) -> HttpsCaller:
        return HttpsCaller(self.layout.identity(ADMIN))

    def _known(self, name: str) -> None:
        names = _everybody(self.profile)
        if name not in names:
            raise LocalClusterError(f"there is no {name}: the members are {', '.join(names)}")

    @contextlib.contextmanager
    def _exclusive(self) -> Iterator[None]:
        try:
            self.layout.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LocalClusterError(f"{self.layout.root} cannot be used: {error.strerror}") from error
        with contextlib.closing(os.fdopen(descriptor)) as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LocalClusterError(
                    f"another `zkp local` command is running in {self.layout.root}: wait for it"
                ) from None
            yield


def _order(profile: ClusterProfile) -> tuple[str, ...]:
    return ((POSTGRES,) if profile.embedded_postgres else ()) + profile.members


def _everybody(profile: ClusterProfile) -> tuple[str, ...]:
    """Every process there may be; Prometheus once it was started."""
    return (*_order(profile), *((PROMETHEUS,) if PROMETHEUS in profile.processes else ()))


def _pid(profile: ClusterProfile, name: str) -> int | None:
    record: ProcessRecord | None = profile.processes.get(name)
    return record.pid if record is not None and record.alive() else None


def _after(began: float | None) -> str:
    """How long a slow start has taken since `began`, of the monotonic clock; None: it ran before."""
    if began is None or (seconds := time.monotonic() - began) < _SLOW_S:
        return ""
    return f" after {seconds:.0f} s"


def _polite(name: str) -> signal.Signals:
    # For PostgreSQL SIGTERM means "when the last client has gone"; SIGINT ends their sessions.
    return signal.SIGINT if name == POSTGRES else signal.SIGTERM


def _stopping_groups(names: Sequence[str]) -> list[list[str]]:
    """Who watches, gateway, then workers, then coordinators, then Postgres; those of one group at the same time."""
    groups: dict[str, list[str]] = {"prometheus": [], "gateway": [], "worker": [], "coordinator": [], "postgres": []}
    for name in names:
        groups[name.partition("-")[0]].append(name)
    return [group for group in groups.values() if group]
