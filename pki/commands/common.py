"""Options and output functions shared by the commands."""

import getpass
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from pki.ca.profiles import LEAF_LIFE
from pki.checks.expiry import Level, list_rows
from pki.errors import PkiError, StoreError
from pki.store.store import AuthorityStore
from pki.tls.credential import read_private
from pki.x509.keys import MAX_PASSPHRASE_BYTES
from zkp.commandline import VersionOption

_PASSPHRASE_VARIABLE = "PKI_PASSPHRASE"  # noqa: S105  # the name of a variable, not a secret
_PASSPHRASE_LENGTH = 8
_STYLES = {Level.OK: "green", Level.DUE: "yellow", Level.LATE: "bold red", Level.EXPIRED: "bold red"}

app = typer.Typer(
    help="\b\nExample:\n  pki init ca --trust-domain zkp.example --network 192.168.1.0/24\n"
    "  pki issue coordinator-1 --role coordinator --host 192.168.1.10 --authority ca --out certs\n\n"
    "The certificate authority of the network: who may take part, and as what.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

AuthorityOption = Annotated[
    Path, typer.Option("--authority", "-a", envvar="PKI_AUTHORITY", help="Directory that `pki init` made.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
HostOption = Annotated[
    list[str] | None, typer.Option("--host", help="Address or DNS name that others dial; repeat for more.")
]
OutOption = Annotated[Path, typer.Option(help="Write to OUT/NAME/.")]
DaysOption = Annotated[int | None, typer.Option(help=f"Life in days, at most {LEAF_LIFE.days}.")]
PassphraseFileOption = Annotated[
    Path | None, typer.Option(help=f"File with the root key's passphrase (or set {_PASSPHRASE_VARIABLE}).")
]
NoPassphraseOption = Annotated[
    bool, typer.Option("--no-passphrase", help="Leave the root's key plain; only with --development.")
]
DevelopmentOption = Annotated[
    bool, typer.Option("--development", help="Declare that nothing depends on this authority.")
]


@app.callback()
def _options(*, _version: VersionOption = False) -> None:
    """Take the options of every command."""


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def user() -> str:
    """Return the operator's name for the ledger."""
    try:
        name = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a user without an entry in the passwd file, as in containers
        name = f"uid {os.getuid()}"
    return f"{name}@{platform.node()}"


def warn_of_clock(store: AuthorityStore) -> AuthorityStore:
    """Return `store`, after a warning if the clock is behind the last ledger entry."""
    last, moment = store.records()[-1].at, now()
    if moment < last:
        print(
            f"warning: the clock says {moment:%Y-%m-%d %H:%M} UTC, and the ledger's last entry is of "
            f"{last:%Y-%m-%d %H:%M} UTC: check this machine's clock; if it is right, `pki status` shows what was "
            "signed while the clock was ahead",
            file=sys.stderr,
        )
    return store


def open_store(directory: Path) -> AuthorityStore:
    """Open an authority for commands that sign or write."""
    return warn_of_clock(AuthorityStore.open(directory))


def open_for_reading(directory: Path) -> AuthorityStore:
    """Open an authority for reading, after a warning for each CRL that was not renewed in time.

    Commands that distribute files use `open_store`: they renew the CRLs themselves.
    """
    store = open_store(directory)
    for row in list_rows(store, now()):
        if row.is_alarming:
            when = f"ends at {row.not_after:%Y-%m-%d %H:%M} UTC, and then"
            print(
                f"warning: the revocation list {row.name} {'is not valid yet, and' if row.not_yet_valid else when} "
                f"peers refuse each other: {row.cure}",
                file=sys.stderr,
            )
    return store


def names(context: typer.Context, incomplete: str) -> list[str]:
    """Return completions of a member's name."""
    directory = context.params.get("authority") or os.environ.get("PKI_AUTHORITY")
    try:
        known = AuthorityStore.open(Path(directory)).register.newest if directory else {}
    except PkiError:  # the shell is waiting for completions, not for errors
        return []
    return [name for name in known if name.startswith(incomplete)]


def life(days: int | None) -> timedelta | None:
    """Return the validity for --days."""
    return None if days is None else timedelta(days=days)


def new_passphrase(file: Path | None, *, plain: bool, development: bool) -> bytes | None:
    """Return the passphrase for a new root key; None for an unencrypted one, which requires two flags."""
    if plain != development:
        raise typer.BadParameter("--no-passphrase and --development go together: give both or neither")
    if plain and file:
        raise typer.BadParameter("--no-passphrase and --passphrase-file exclude each other")
    if plain:
        return None
    phrase = passphrase(file, confirm=True)
    if len(phrase.decode()) < _PASSPHRASE_LENGTH:
        raise StoreError(f"passphrase is shorter than {_PASSPHRASE_LENGTH} characters: take a longer one")
    return phrase


def passphrase(file: Path | None, *, confirm: bool = False) -> bytes:
    """Return the passphrase from a file, the environment or a prompt; raise StoreError if it is unusable."""
    if file is not None:
        text = read_private(file).decode("utf-8", "replace").rstrip("\r\n")
    elif _PASSPHRASE_VARIABLE in os.environ:
        text = os.environb[_PASSPHRASE_VARIABLE.encode()].decode("utf-8", "replace")
    elif sys.stdin.isatty():
        text = typer.prompt("Passphrase for the root's key", hide_input=True, confirmation_prompt=confirm)
    else:
        raise StoreError(f"no passphrase for the root's key: give --passphrase-file or {_PASSPHRASE_VARIABLE}")
    phrase = text.encode()
    if not phrase:
        raise StoreError("passphrase is empty: give the one that belongs to the root's key")
    if len(phrase) > MAX_PASSPHRASE_BYTES:
        raise StoreError(
            f"passphrase has {len(phrase)} bytes, and OpenSSL accepts at most {MAX_PASSPHRASE_BYTES}: "
            "take a shorter one"
        )
    return phrase


def print_json(value: object) -> None:
    """Print one JSON document."""
    print(json.dumps(value, indent=2))


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on a terminal, with rows coloured by level; otherwise tab-separated rows."""
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
        return
    from rich.console import Console  # noqa: PLC0415  # half of the command's start-up, for terminals only
    from rich.table import Table  # noqa: PLC0415

    styles: Mapping[str, str] = {level.value: style for level, style in _STYLES.items()}
    table = Table(*headings, box=None)
    for row in rows:
        table.add_row(*row, style=styles.get(row[0]))
    Console().print(table)
