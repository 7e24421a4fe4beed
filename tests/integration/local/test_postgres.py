"""The embedded PostgreSQL: Unix socket only, owner only, crash recovery."""

import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.read_only_shm import with_read_only_shm
from zkp.localcluster.postgres import EmbeddedPostgres, program
from zkp.localcluster.process import ProcessRecord, processes_in, spawn

_TIMEOUT_S = 30.0

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="PostgreSQL changes its user for root alone")


class Server:
    """A server in a directory, started with the command prefix `prefix`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.postgres = EmbeddedPostgres(self.directory / "postgres")
        self.record: ProcessRecord | None = None
        self.prefix: list[str] = []

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        self.postgres.initialise()
        log = self.directory / "postgres.log"
        self.record = spawn([*self.prefix, *self.postgres.command()], log=log, environ=dict(os.environ))
        while not self.postgres.ready(self.record.pid):
            assert self.record.alive(), log.read_text()
            self.record.wait(0.02)

    def kill(self) -> None:
        """Kill the server, and wait for its children to exit."""
        if self.record is not None:
            self.record.stop(_TIMEOUT_S, first=signal.SIGKILL)
        for child in processes_in(self.directory / "postgres"):
            child.wait(_TIMEOUT_S)

    def ask(self, statement: str) -> object:
        """Return the first column of the first row."""
        with psycopg.connect(self.postgres.url) as connection:
            row = connection.execute(statement.encode()).fetchone()
            return row[0] if row else None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A running server."""
    made = Server(tmp_path)
    made.start()
    yield made
    made.kill()
    made.postgres.remove_socket_directory()


def test_it_serves_over_its_socket_and_listens_on_no_port(server: Server) -> None:
    """The server has no TCP listener."""
    assert server.ask("SHOW listen_addresses") == ""
    assert server.ask("SELECT inet_server_addr() IS NULL")


def test_only_its_owner_may_open_the_socket(server: Server) -> None:
    """The directory and the socket are closed to other users."""
    directory = server.postgres.socket_directory

    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / ".s.PGSQL.5432").stat().st_mode & 0o777 == 0o700


def test_root_does_not_run_it_as_root(server: Server) -> None:
    """The server's user is never root."""
    assert server.record is not None
    user = Path(f"/proc/{server.record.pid}").stat().st_uid

    assert user == (pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else os.geteuid())


def test_it_comes_back_after_a_crash_with_what_was_committed(server: Server) -> None:
    """Committed data survive SIGKILL."""
    with psycopg.connect(server.postgres.url) as connection:
        connection.execute(b"CREATE TABLE kept AS SELECT 42 AS value")
    server.kill()

    server.start()

    assert server.ask("SELECT value FROM kept") == 42


def test_a_start_that_was_cut_short_does_not_bar_the_next(server: Server) -> None:
    """The empty lock file of a server that was killed while starting is removed."""
    server.kill()
    (server.directory / "postgres" / "postmaster.pid").write_bytes(b"")

    server.postgres.remove_empty_lock_file()
    server.start()

    assert server.ask("SELECT 1") == 1


def test_a_path_too_long_for_a_socket_gets_a_short_directory_for_it(tmp_path: Path) -> None:
    """A long path gets a short socket directory, which is removed when the cluster stops."""
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    server = Server(deep)
    try:
        server.start()
        short = server.postgres.socket_directory
        assert not short.is_relative_to(deep)
        assert server.ask("SELECT 1") == 1
    finally:
        server.kill()
        server.postgres.remove_socket_directory()
    assert not short.exists()


def test_a_parent_that_is_closed_to_others_is_no_obstacle(tmp_path: Path) -> None:
    """A checkout in a private home works without wider permissions."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    server = Server(home)
    try:
        server.start()
        assert server.ask("SELECT 1") == 1
        assert home.stat().st_mode & 0o777 == 0o700
    finally:
        server.kill()
        shutil.rmtree(home)


@as_root
def test_programs_below_a_closed_directory_serve_root(closed_programs: Path, server: Server) -> None:
    """A checkout in root's home (0700) works for root, also after a restart."""
    assert program("postgres").is_relative_to(closed_programs)
    with psycopg.connect(server.postgres.url) as connection:
        connection.execute(b"CREATE TABLE kept AS SELECT 42 AS value")
    server.kill()

    server.start()

    assert server.ask("SELECT value FROM kept") == 42
    assert closed_programs.stat().st_mode & 0o777 == 0o700


@as_root
@pytest.mark.parametrize("missing", ["dac_read_search", "dac_override"])
def test_either_capability_of_root_suffices(closed_programs: Path, tmp_path: Path, missing: str) -> None:
    """One of the two capabilities is enough, as in containers."""
    done = initialise(tmp_path / "postgres", lacking=[missing])

    assert done.returncode == 0, done.stderr


@as_root
@pytest.mark.parametrize("missing", [["dac_read_search", "dac_override"], ["setpcap"]])
def test_root_without_the_capabilities_is_an_error(tmp_path: Path, missing: list[str]) -> None:
    """The one-line error names the missing capabilities and the alternatives."""
    done = initialise(tmp_path / "postgres", lacking=missing)

    assert done.returncode == 1
    assert done.stderr.startswith("root: needs CAP_SETPCAP and CAP_DAC_READ_SEARCH (or CAP_DAC_OVERRIDE)")
    assert "set ZKP_DATABASE_URL" in done.stderr
    assert not (tmp_path / "postgres").exists()


def test_a_read_only_shm_is_no_obstacle(server: Server) -> None:
    """Data created with a writable /dev/shm are served without one."""
    server.kill()
    server.prefix = with_read_only_shm()

    server.start()

    assert server.ask("SELECT 1") == 1


def initialise(data: Path, *, lacking: list[str]) -> subprocess.CompletedProcess[str]:
    """Initialise a data directory as root without these capabilities."""
    dropped = ",".join(f"-{capability}" for capability in lacking)
    code = (
        "import sys; from pathlib import Path; from zkp.localcluster.postgres import EmbeddedPostgres; "
        "from zkp.localcluster.errors import LocalClusterError\n"
        f"try: EmbeddedPostgres(Path({str(data)!r})).initialise()\n"
        "except LocalClusterError as error: sys.exit(str(error))"
    )
    command = ["setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}", sys.executable, "-P", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
