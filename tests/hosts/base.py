"""The tree that every test host starts from: a plain Debian 12 as an installer leaves it, made once and kept.

It lies outside the checkout, under a name that is the hash of its recipe, and is never changed after it was made. The
packages that a deployment installs are downloaded into it, not installed, so that deploying needs hardly any network.
"""

import fcntl
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.hosts.commands import attempt, last_words, run, said
from tests.hosts.errors import HostsError

CACHE = Path("/var/cache/zkp-test-hosts")
_SUITE = "bookworm"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_CERTIFICATES = Path("/usr/local/share/ca-certificates")

_INSTALLED = (
    "ca-certificates", "curl", "dbus", "iproute2", "iputils-ping", "less", "nftables", "openssh-server", "openssl",
    "procps", "python3", "python3-apt", "python3-venv", "sudo", "systemd", "systemd-sysv",
)  # fmt: skip
_DOWNLOADED = (
    "acl", "cron", "haproxy", "logrotate", "postgresql-15", "prometheus", "prometheus-alertmanager",
    "prometheus-node-exporter", "prometheus-postgres-exporter", "python3-psycopg2", "rsync", "socat",
    "systemd-timesyncd",
)  # fmt: skip

# What is done to the tree after debootstrap; a part of the recipe, so that a change makes a new tree.
_FINISH = f"""
set -eu
export DEBIAN_FRONTEND=noninteractive
echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/unsafe-io
update-ca-certificates >/dev/null
apt-get clean
apt-get update --quiet=2
apt-get install --quiet=2 --yes --download-only --no-install-recommends {" ".join(_DOWNLOADED)}
apt-get install --quiet=2 --yes --download-only --no-install-recommends chrony
systemctl enable --quiet systemd-networkd
adduser --quiet --disabled-password --gecos Deployment deploy
echo 'deploy ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/deploy
chmod 0440 /etc/sudoers.d/deploy
rm -f /etc/ssh/ssh_host_* /etc/machine-id /var/lib/dbus/machine-id
: > /etc/machine-id
"""


def base_tree() -> Path:
    """The directory of the tree, made first where it is missing (two minutes); raises HostsError."""
    with locked(CACHE):
        sources = _sources()
        tree = CACHE / _key(sources)
        if not tree.exists():
            _make(tree, sources)
            _forget_others(tree)
        return tree


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """One process at a time changes what is in the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(tree: Path, sources: tuple[str, ...]) -> None:
    partial = tree.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    mirror = next(source.split()[2] for source in sources if source.split()[3] == _SUITE)
    _reach(mirror)
    run("debootstrap", "--variant=minbase", f"--include={','.join(_INSTALLED)}", _SUITE, str(partial), mirror)
    (partial / "etc/apt/sources.list").write_text("".join(f"{source}\n" for source in sources))
    for certificate in _CERTIFICATES.glob("*.crt"):
        shutil.copy(certificate, partial / _CERTIFICATES.relative_to("/") / certificate.name)
    resolvers(partial)
    run("chroot", str(partial), "sh", stdin=_FINISH)
    partial.rename(tree)


def _reach(mirror: str) -> None:
    """Raises HostsError when it does not answer: debootstrap would go on trying for a very long time."""
    options = "--silent", "--show-error", "--fail", "--location", "--max-time", "60", "--retry", "2"
    asked = attempt("curl", *options, "--output", "/dev/null", f"{mirror.rstrip('/')}/dists/{_SUITE}/InRelease")
    if asked.returncode != 0:
        raise HostsError(f"Debian cannot be had from {mirror}: {last_words(asked, lines=1)}")


def resolvers(tree: Path) -> None:
    """Give the tree the name servers of this machine, not the stub that answers on its loopback alone."""
    uplink = Path("/run/systemd/resolve/resolv.conf")
    target = tree / "etc/resolv.conf"
    target.unlink(missing_ok=True)
    target.write_text((uplink if uplink.exists() else Path("/etc/resolv.conf")).read_text())


def _sources() -> tuple[str, ...]:
    """The package sources of Debian that this machine uses, as lines of a sources.list."""
    form = "$(REPO_URI) $(RELEASE) $(COMPONENT)"
    targets = attempt("apt-get", "indextargets", "--format", form, "Created-By: Packages", "Origin: Debian")
    found = sorted({f"deb [signed-by={_KEYRING}] {target}" for target in said(targets.stdout)})
    if not any(source.split()[3] == _SUITE for source in found):
        raise HostsError(f"apt knows no package of Debian {_SUITE}: test hosts need that system; run apt-get update")
    return tuple(found)


def _key(sources: tuple[str, ...]) -> str:
    certificates = [certificate.read_text() for certificate in sorted(_CERTIFICATES.glob("*.crt"))]
    recipe = repr((_SUITE, _INSTALLED, _FINISH, sources, certificates))
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def _forget_others(tree: Path) -> None:
    """Trees of older recipes go when no host stands on them."""
    mounts = Path("/proc/self/mounts").read_text()
    for other in CACHE.iterdir():
        if other.is_dir() and other != tree and f"lowerdir={other}" not in mounts:
            shutil.rmtree(other)
