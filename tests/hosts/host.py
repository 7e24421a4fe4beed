"""One host: an overlay over the base tree, booted by systemd-nspawn with an address of its own, reached over ssh.

Everything that runs on it is in control groups that are written down, so it can be stopped by whoever comes later.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hosts.base import resolvers
from tests.hosts.commands import attempt, run, said
from tests.hosts.errors import HostsError

USER = "deploy"
_PROPAGATED = Path("/run/systemd/nspawn/propagate")
PATIENCE_S = 300.0  # a boot takes 3 s, and far longer on a machine that has much else to do
_POLL_S = 0.1
_HIERARCHIES = {
    "": (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")),
    "name=systemd": (Path("/sys/fs/cgroup/systemd"),),
}
# The host gets control groups of its own: systemd-nspawn would put all of them into one, and the systemd of each
# would take the processes of another for its own. Rebooting it leaves to whoever started it, by this exit status.
_BOOT = """
set -e
while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs"; shift; done; shift
exec setsid --fork sh -c 'while systemd-nspawn "$@"; [ $? -eq 133 ]; do :; done' host "$@"
"""
# Every login and every sudo session takes the umask of login.defs; shells take it again from the profile.
_HARDEN = """
set -eu
sed -i 's/^UMASK.*/UMASK {umask}/' /etc/login.defs
for stack in common-session common-session-noninteractive; do
    echo 'session optional pam_umask.so' >> /etc/pam.d/$stack
done
echo 'umask {umask}' > /etc/profile.d/umask.sh
echo 'umask {umask}' >> /root/.profile
"""
_NETWORK = """[Match]
Name=host0

[Network]
IPv6AcceptRA=no
LinkLocalAddressing={link_local}
"""
_LISTS = "var/lib/apt/lists"


@dataclass(frozen=True, slots=True)
class Host:
    """`directory` holds everything that it is made of; `key` is the private ssh key of its operator."""

    name: str
    address: str
    more_addresses: list[str]  # of the other IP version, where it has both
    directory: Path
    key: Path
    known_hosts: Path
    machine: str  # a name that no other machine of any fleet has
    umask: str  # octal, as a hardened installation sets it; empty for Debian's own

    @property
    def root(self) -> Path:
        """Its file system, seen from this machine while it is mounted."""
        return self.directory / "root"

    @property
    def console(self) -> Path:
        """What it said while it booted."""
        return self.directory / "console.log"

    @property
    def public_key(self) -> str:
        """By which ssh knows it."""
        return (self.root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().strip()

    def create(self, base: Path, addresses: Sequence[str], gateways: Sequence[str]) -> None:
        """Make its disk: the base tree with a name, addresses, ssh keys and the operator's public key."""
        for part in ("root", "upper", "work"):
            (self.directory / part).mkdir(parents=True)
        layers = f"lowerdir={base},upperdir={self.directory / 'upper'},workdir={self.directory / 'work'}"
        run("mount", "-t", "overlay", "overlay", "-o", layers, str(self.root))
        etc = self.root / "etc"
        (etc / "hostname").write_text(f"{self.name}\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n::1 localhost ip6-localhost\n")
        network = _NETWORK.format(link_local="ipv6" if ":" in "".join(addresses) else "no")
        network += "".join(f"Address={address}\n" for address in addresses)
        network += "".join(f"Gateway={gateway}\n" for gateway in gateways)
        if all(":" in address for address in addresses):
            (self.root / _LISTS).touch()  # there is no way to the mirror
        # Sorts before 80-container-host0.network, which would ask for a lease.
        (etc / "systemd/network/10-host0.network").write_text(network)
        resolvers(self.root)
        run("ssh-keygen", "-A", "-f", str(self.root))
        authorized = self.root / "home" / USER / ".ssh/authorized_keys"
        authorized.parent.mkdir(mode=0o700)
        authorized.write_text(self.key.with_suffix(".pub").read_text())
        run("chroot", str(self.root), "chown", "-R", f"{USER}:{USER}", f"/home/{USER}/.ssh")
        if self.umask:
            run("chroot", str(self.root), "sh", stdin=_HARDEN.format(umask=self.umask))

    def power_on(self, bridge: str) -> None:
        """Begin to boot; `wait` for it to be up."""
        if not self.root.is_mount():
            raise HostsError(f"the disk of {self.name} is not mounted any more: take its fleet down and up again")
        groups = _control_groups(self.machine)
        self._written_groups.write_text("".join(f"{group}\n" for group in groups))
        for group in groups:
            group.mkdir(exist_ok=True)
        quiet = "--quiet", "--register=no", "--keep-unit", "--resolv-conf=off", "--timezone=off", "--link-journal=no"
        names = f"--machine={self.machine}", f"--hostname={self.name}", f"--network-bridge={bridge}"
        options = *quiet, *names, "--console=pipe", f"--directory={self.root}", "--boot"
        command = "sh", "-c", _BOOT, "host", *map(str, groups), "--", *options
        with self.console.open("ab") as console:
            begun = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
        if begun.returncode != 0:
            raise HostsError(f"{self.name} cannot be booted: {self._last_said()}")

    def power_off(self) -> None:
        """As if the plug was pulled: nothing in it runs another instruction. Also when it is off already."""
        # First of all the network: the kernel would take leave of every peer in the name of what is killed.
        attempt("ip", "link", "delete", f"vb-{self.machine}")
        deadline = time.monotonic() + PATIENCE_S
        while self.running:
            for group in self._groups():
                killer = group / "cgroup.kill"
                if killer.exists():  # in cgroups 2; the others follow
                    killer.write_text("1")
            if time.monotonic() > deadline:
                raise HostsError(f"{self.name} does not end: see {', '.join(map(str, self._groups()))}")
            time.sleep(_POLL_S)

    def destroy(self) -> None:
        """Power off and take away what it has outside its directory."""
        self.power_off()
        while self.root.is_mount():
            run("umount", str(self.root))
        for group in self._groups():
            _remove(group)
        shutil.rmtree(_PROPAGATED / self.machine, ignore_errors=True)

    @property
    def running(self) -> bool:
        """It has power; it may still be booting."""
        events = [group / "cgroup.events" for group in self._groups()]
        return any("populated 1" in path.read_text() for path in events if path.exists())

    def wait(self) -> None:
        """Until ssh answers, each unit has started or failed, and each address can be used; raises HostsError."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            state = self.ssh("systemctl is-system-running").stdout.strip()
            if state in {"running", "degraded"} and self._has_its_addresses():
                return
            if not self.running:
                raise HostsError(f"{self.name} went off while it booted: {self._last_said()}")
            if time.monotonic() > deadline:
                why = f"it is {state}, or lacks an address" if state else "ssh does not answer"
                raise HostsError(f"{self.name} is not up after {PATIENCE_S:.0f} s: {why}; {self._last_said()}")
            time.sleep(_POLL_S)

    def run(self, command: str) -> str:
        """What a shell command, run by root on the host, prints; raises HostsError with its words."""
        done = self.ssh(f"sudo -n sh -c {_quoted(command)}")
        if done.returncode != 0:
            raise HostsError(f"`{command}` on {self.name} failed ({done.returncode}): {done.stderr.strip()[-2000:]}")
        return done.stdout

    def ssh(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run by its operator; exit status 255 when the host cannot be reached."""
        return attempt(*self.login(), command)

    def login(self) -> tuple[str, ...]:
        """The ssh command that reaches it."""
        known = "-o", f"UserKnownHostsFile={self.known_hosts}"
        patience = "-o", "ConnectTimeout=20", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=10"
        return ("ssh", *known, *patience, "-i", str(self.key), f"{USER}@{self.address}")

    def _has_its_addresses(self) -> bool:
        """An IPv6 address cannot be used until the kernel has looked for duplicates of it, a second or two."""
        shown = self.ssh("ip -json address show dev host0 scope global -tentative").stdout
        links = json.loads(shown) if shown else []
        ready = {address["local"] for link in links for address in link.get("addr_info", ()) if address}
        return ready >= {self.address, *self.more_addresses}

    def _last_said(self) -> str:
        """The end of its console, in one line."""
        return " / ".join(said(self.console.read_text("utf-8", "replace"))[-3:]) or "its console is empty"

    @property
    def _written_groups(self) -> Path:
        """Names its control groups: they are made inside those of whoever boots it."""
        return self.directory / "groups"

    def _groups(self) -> list[Path]:
        lines = self._written_groups.read_text().splitlines() if self._written_groups.exists() else []
        return [group for group in map(Path, lines) if group.exists()]


def _control_groups(machine: str) -> list[Path]:
    """New ones inside those of this process that a systemd needs, of cgroups 2 and 1; raises HostsError."""
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, place = line.split(":", 2)
        if controllers in _HIERARCHIES:
            mounted = [path for path in _HIERARCHIES[controllers] if (path / "cgroup.procs").exists()]
            found += [path / place.lstrip("/") / f"zkp-test-host-{machine}" for path in mounted[:1]]
    if not any((group.parent / "cgroup.controllers").exists() for group in found):
        raise HostsError("this machine shows no control groups of version 2")
    return found


def _remove(group: Path) -> None:
    """A control group in which nothing runs any more; the kernel may take a moment to see that."""
    deadline = time.monotonic() + PATIENCE_S
    while group.exists():
        try:
            for each, _, _ in os.walk(group, topdown=False):
                Path(each).rmdir()
        except OSError as error:
            if time.monotonic() > deadline:
                raise HostsError(f"{group} cannot be removed: {error.strerror}") from None
            time.sleep(_POLL_S)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
