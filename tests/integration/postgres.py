"""Real PostgreSQL servers for tests: the embedded one from PyPI, and Debian's, which alone has TLS.

Plain classes; the fixtures that most tests want are in conftest.py beside this file. Speed comes from `fsync=off`:
nothing here outlives a test run.
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
from psycopg import sql

from zkp.localcluster.postgres import EmbeddedPostgres, as_server_user

SUPERUSER = "postgres"
_NUMBERS = itertools.count(1)  # of databases, so that no two share a name
STARTS_WITHIN = 60.0  # seconds; a loaded machine takes its time


class PostgresServer:
    """A server that tests may stop, start and freeze."""

    def __init__(self, directory: Path, command: list[str], socket_directory: Path, port: int = 5432) -> None:
        """command: what serves the data, which are there already."""
        self._directory = directory
        self._command = command
        self._socket = socket_directory
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self.template = ""
        """Name of the database that tests clone, once there is one."""
        self.start()

    def parameters(self, database: str = "postgres") -> dict[str, str]:
        """libpq's keywords to reach a database as superuser over the Unix socket."""
        return {"host": str(self._socket), "port": str(self._port), "user": SUPERUSER, "dbname": database}

    def start(self) -> None:
        """Start it, and return once it answers."""
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                psycopg.connect(**_keywords(self.parameters())).close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    log_text = (self._directory / "log").read_text(errors="replace")
                    raise RuntimeError(f"PostgreSQL does not start:\n{log_text}") from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop it at once, sessions included."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(STARTS_WITHIN)
            self._process = None

    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None
        return self._process.pid

    def close(self) -> None:
        """Stop it and remove its data."""
        self.stop()
        shutil.rmtree(self._directory)


@contextlib.contextmanager
def frozen(server: PostgresServer) -> Iterator[None]:
    """Within this context the server and its sessions hang: connections stay open, nothing answers."""
    postmaster = psutil.Process(server.pid())
    processes = [postmaster, *postmaster.children(recursive=True)]
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def away(server: PostgresServer) -> Iterator[None]:
    """Within this context the server is stopped."""
    server.stop()
    try:
        yield
    finally:
        server.start()


class Databases:
    """Cheap databases on one server: a template that is made once, and a clone for each test."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    def create(self, template: str = "template0", **options: str) -> str:
        """A new database; its name. options: of CREATE DATABASE, such as encoding="LATIN1"."""
        name = f"test_{os.getpid()}_{next(_NUMBERS)}"
        extra = [sql.SQL("{} {}").format(sql.SQL(key), sql.Literal(value)) for key, value in options.items()]
        self._run(
            sql.SQL("CREATE DATABASE {} TEMPLATE {} {}").format(
                sql.Identifier(name), sql.Identifier(template), sql.SQL(" ").join(extra)
            )
        )
        return name

    def drop(self, name: str) -> None:
        """Remove it, whoever is connected."""
        self._run(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _run(self, statement: sql.Composed) -> None:
        with psycopg.connect(**_keywords(self._server.parameters()), autocommit=True) as connection:
            connection.execute(statement)


class EmbeddedServer(PostgresServer):
    """The PostgreSQL of the local cluster, from PyPI: no TLS, a Unix socket."""

    def __init__(self) -> None:
        directory = _new_directory()
        embedded = EmbeddedPostgres(directory / "data")
        embedded.initialise()
        super().__init__(directory, [*embedded.command(), "--fsync=off"], embedded.socket_directory)


class SystemServer(PostgresServer):
    """Debian's PostgreSQL: a Unix socket for everybody on this machine, TCP for client certificates.

    Over TCP it takes nothing but TLS 1.3 with a certificate of `ca_pem` whose subject says "coordinator", and only
    as the database role `zkp`.
    """

    def __init__(self, certificate_pem: bytes, key_pem: bytes, ca_pem: bytes, trust_domain: str) -> None:
        """The server's own certificate and key, and the roots that its clients' certificates must chain to."""
        binaries = system_binaries()
        if binaries is None:
            raise RuntimeError("Debian's PostgreSQL is not installed")
        directory = _new_directory()
        self._data = directory / "data"
        self._owner = _unprivileged()
        self._data.mkdir(mode=0o700)
        self._give(self._data)
        options = ["--auth=trust", "--encoding=UTF8", f"--username={SUPERUSER}", "--no-sync"]
        initdb = [*as_server_user(), str(binaries / "initdb"), *options, "-D", str(self._data)]
        done = subprocess.run(initdb, check=False, capture_output=True, text=True, cwd="/")
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed:\n{done.stderr}")
        port = _free_port()
        self._configure(trust_domain, port)
        self._write("server.crt", certificate_pem)
        self._write("server.key", key_pem)
        self._write("ca.crt", ca_pem)
        command = [*as_server_user(), str(binaries / "postgres"), "-D", str(self._data)]
        super().__init__(directory, command, self._data, port)

    def tcp_parameters(self, database: str) -> dict[str, str]:
        """The same server over TCP, as the role `zkp`; the caller adds what TLS needs."""
        return {"host": "127.0.0.1", "port": str(self._port), "user": "zkp", "dbname": database}

    def _configure(self, trust_domain: str, port: int) -> None:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(port),
            "unix_socket_directories": str(self._data),
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": "server.crt",
            "ssl_key_file": "server.key",
            "ssl_ca_file": "ca.crt",
            "ssl_min_protocol_version": "TLSv1.3",
        }
        self._write(
            "postgresql.auto.conf", "".join(f"{key} = '{value}'\n" for key, value in settings.items()).encode()
        )
        # The whole subject is mapped, not the common name alone: a worker may be called anything.
        self._write(
            "pg_hba.conf",
            b"local all all trust\nhostssl all zkp 127.0.0.1/32 cert clientname=DN map=coordinators\n",
        )
        domain = trust_domain.replace(".", r"\.")
        self._write(
            "pg_ident.conf", rf'coordinators "/^CN=[a-z0-9-]+,OU=coordinator,O={domain}$" zkp'.encode() + b"\n"
        )

    def _write(self, name: str, content: bytes) -> None:
        path = self._data / name
        path.write_bytes(content)
        path.chmod(0o600)
        self._give(path)

    def _give(self, path: Path) -> None:
        if self._owner is not None:
            os.chown(path, self._owner.pw_uid, self._owner.pw_gid)


def system_binaries() -> Path | None:
    """The directory of the newest PostgreSQL that Debian's packages have installed, or None."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres")]
    return max(found, key=lambda path: int(path.parent.name), default=None)


def _unprivileged() -> pwd.struct_passwd | None:
    """Whom the server runs as when we are root, which PostgreSQL refuses to be; None: ourselves."""
    return pwd.getpwnam("nobody") if os.geteuid() == 0 else None


def _new_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="zkp-pg-"))
    directory.chmod(0o755)  # the server's user must get through it
    return directory


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _keywords(parameters: dict[str, str]) -> dict[str, Any]:
    # psycopg's signature has typed keywords of its own; these are all libpq's.
    return dict(parameters)
