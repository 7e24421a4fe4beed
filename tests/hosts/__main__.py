"""`python -m tests.hosts`: real Debian 12 hosts on this machine, for tests and for play."""

import os
import subprocess
import sys
from typing import Annotated

import typer

from tests.hosts.commands import require
from tests.hosts.errors import HostsError
from tests.hosts.fleet import Fleet

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Example: python -m tests.hosts up --hosts 3\n\nBoot Debian hosts on this machine and take them away again.",
)
_CANNOT = 3
_HARDENED = (
    "DynamicUser=yes", "ProtectSystem=strict", "ProtectProc=invisible", "ProtectKernelTunables=yes",
    "ProtectControlGroups=yes", "PrivateDevices=yes", "PrivateUsers=yes", "PrivateIPC=yes", "RestrictNamespaces=yes",
    "MemoryDenyWriteExecute=yes", "SystemCallFilter=@system-service",
)  # fmt: skip
"""What our units ask of a kernel, and a container inside a container may not give."""
_PACKAGE_LISTS = (
    "find /var/lib/apt/lists -maxdepth 0 -mmin -45 | grep --quiet . ||"
    " apt-get update --quiet=2 --option APT::Update::Error-Mode=any"
)
"""A deployment asks the mirror, from the hosts, when they are older than an hour."""
Name = Annotated[str, typer.Option("--name", help="Which fleet; several stand side by side.")]
Which = Annotated[str, typer.Argument(metavar="HOST", help="One host of the fleet.")]


@app.callback()
def demand(called: typer.Context) -> None:
    """Only who asks whether this machine can have hosts is not told by an error that it cannot."""
    if called.invoked_subcommand != "probe":
        require()


@app.command()
def up(
    *,
    hosts: Annotated[int, typer.Option(min=1, max=40, help="How many.")] = 3,
    names: Annotated[str, typer.Option(help="Their names, with commas, instead of host-1, host-2, …")] = "",
    ip: Annotated[str, typer.Option(help="Their versions of IP: 4, 6, or 4,6 for both.")] = "4",
    name: Name = "play",
) -> None:
    """Example: python -m tests.hosts up --hosts 3

    Boot a fleet; the first time ever takes two minutes more.
    """
    chosen = [each.strip() for each in names.split(",")] if names else [f"host-{n}" for n in range(1, hosts + 1)]
    _print(Fleet.create(name, chosen, versions=[int(version) for version in ip.split(",")]))


@app.command()
def probe() -> None:
    """Example: python -m tests.hosts probe

    Boot one host and take it away again, to find out whether this machine can. Exit 3 with the reason if it cannot.
    """
    try:
        require()
        boot_one()
    except HostsError as error:
        print(f"this machine can boot no test hosts: {' '.join(str(error).split())}")
        raise typer.Exit(_CANNOT) from None
    print("this machine can boot test hosts")


@app.command()
def status() -> None:
    """Example: python -m tests.hosts status

    List the fleets of this machine and how to reach their hosts.
    """
    for name in Fleet.names():
        _print(Fleet(name))


@app.command()
def down(
    *,
    name: Name = "play",
    everything: Annotated[bool, typer.Option("--all", help="Every fleet of this machine.")] = False,
) -> None:
    """Example: python -m tests.hosts down

    Take a fleet away, with nothing left of it.
    """
    for each in Fleet.names() if everything else [name]:
        Fleet(each).destroy()


@app.command()
def run(
    host: Which, command: Annotated[list[str], typer.Argument(help="For a shell.")], *, name: Name = "play"
) -> None:
    """Example: python -m tests.hosts run host-1 -- systemctl status zkp-coordinator

    Run a command as root on a host.
    """
    login = Fleet(name).host(host).login()
    raise typer.Exit(subprocess.run([*login, "sudo", "-n", *command], check=False).returncode)


@app.command("power-off")
def power_off(host: Which, *, name: Name = "play") -> None:
    """Example: python -m tests.hosts power-off host-1

    Pull the plug.
    """
    Fleet(name).host(host).power_off()


@app.command("power-on")
def power_on(host: Which, *, name: Name = "play") -> None:
    """Example: python -m tests.hosts power-on host-1

    Boot a host that is off.
    """
    Fleet(name).power_on(host)


@app.command()
def reboot(host: Annotated[list[str], typer.Argument(metavar="HOST…")], *, name: Name = "play") -> None:
    """Example: python -m tests.hosts reboot host-1 host-2

    Reboot hosts in good order, all at the same time.
    """
    Fleet(name).reboot(*host)


def boot_one() -> None:
    """A host that does what a deployment asks of each; raises HostsError if it cannot."""
    name = f"probe-{os.getpid()}"
    try:
        host = Fleet.create(name, ["host-1"]).host("host-1")
        host.run(f"systemd-run --quiet --wait --collect {' '.join(f'--property={each}' for each in _HARDENED)} true")
        host.run(_PACKAGE_LISTS)
    finally:
        if name in Fleet.names():
            Fleet(name).destroy()


def _print(fleet: Fleet) -> None:
    print(f"fleet {fleet.name}: {', '.join(fleet.gateways)} is this machine, inventory {fleet.inventory}")
    for host in fleet.hosts.values():
        print(f"  {host.name:<16} {'on ' if host.running else 'off'} ssh -i {host.key} {host.login()[-1]}")


def main() -> None:
    """Exit 1 with one line when it fails."""
    try:
        app()
    except HostsError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
