"""The `pki` command: arguments in, one line or a table out. Work is done in `store.py` and `authority.py`."""

import getpass
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from rich.console import Console
from rich.table import Table

from pki.authority import Authority
from pki.credential import read_private
from pki.errors import PkiError, StoreError
from pki.files import TlsFiles
from pki.identity import Role
from pki.issued import Issued
from pki.ledger import Record
from pki.profiles import LEAF_LIFE
from pki.scope import parse_network
from pki.store import AuthorityStore, Order

_PASSPHRASE_VARIABLE = "PKI_PASSPHRASE"  # noqa: S105  # the name of a variable, not a secret
_PASSPHRASE_LENGTH = 8

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


@app.command(short_help="Make a root and an issuing CA.")
def init(
    directory: Annotated[Path, typer.Argument(help="Where the authority will live.")],
    *,
    trust_domain: Annotated[str, typer.Option(help="Name of the network, a DNS name: zkp.example.")],
    domain: Annotated[
        list[str] | None, typer.Option(help="DNS domain of hosts outside the trust domain; repeat for more.")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(help="Network of hosts, like 192.168.1.0/24; repeat for more.")
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the root key's passphrase (or set {_PASSPHRASE_VARIABLE})."),
    ] = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Leave the root's key plain; only with --development.")
    ] = False,
    development: Annotated[
        bool, typer.Option("--development", help="Say that nothing depends on this authority.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki init ca --trust-domain zkp.example --network 192.168.1.0/24

    Make a root (10 years) and an issuing CA (1 year) in DIRECTORY. Certificates can be issued for hosts under
    the trust domain, the --domain and --network given, and for localhost.
    """
    if no_passphrase != development:
        raise typer.BadParameter("--no-passphrase and --development go together: give both or neither")
    if no_passphrase and passphrase_file:
        raise typer.BadParameter("--no-passphrase and --passphrase-file exclude each other")
    now = datetime.now(UTC)
    authority = Authority.create(
        trust_domain, now=now, domains=domain or (), networks=[parse_network(text) for text in network or ()]
    )
    passphrase = None if no_passphrase else _passphrase(passphrase_file)
    AuthorityStore.create(directory, authority, passphrase=passphrase, now=now, by=_user())
    root, issuer = authority.roots[0], authority.issuer.certificate
    if as_json:
        _print_json(
            {
                "directory": str(directory),
                "trust_domain": trust_domain,
                "root_sha256": root.fingerprint(hashes.SHA256()).hex(),
                "root_not_after": root.not_valid_after_utc.isoformat(),
                "issuer_not_after": issuer.not_valid_after_utc.isoformat(),
            }
        )
        return
    print(f"authority for {trust_domain} in {directory}")
    print(f"root until {_day(root)}, SHA-256 {root.fingerprint(hashes.SHA256()).hex()}")
    print(f"issuing CA until {_day(issuer)}")
    if development:
        print("development only: the root's key is not encrypted")
    else:
        print(f"next: move {directory / 'root.key'} to a safe place offline; issuing does not need it")


@app.command(short_help="Make a key and certificate.")
def issue(
    name: Annotated[str, typer.Argument(help="Name of the node or person, like coordinator-1.")],
    *,
    role: Annotated[Role, typer.Option(help="What it is, which decides what it may do.")],
    authority: AuthorityOption,
    host: Annotated[
        list[str] | None, typer.Option(help="Address or DNS name that others dial; repeat for more.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Write to OUT/NAME/.")] = Path(),
    days: Annotated[int | None, typer.Option(help=f"Life in days, at most {LEAF_LIFE.days}.")] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite the key and certificate in OUT/NAME/.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki issue worker-1 --role worker --host 192.168.1.20 --authority ca --out certs

    Make a key and certificate, and write OUT/NAME/ with certificate.pem, key.pem and ca.pem.
    """
    life = None if days is None else timedelta(days=days)
    store = AuthorityStore.open(authority)
    order = Order(name, role, tuple(host or ()), life)
    issued = store.issue([order], out, now=datetime.now(UTC), by=_user(), replace=replace)
    if as_json:
        _print_json([_issued_json(one, out) for one in issued])
        return
    for one in issued:
        who = one.identity
        print(f"{who.role} {who.name} until {_day(one.certificate)} in {out / who.name}")


@app.command("list", short_help="List what was issued.")
def list_(authority: AuthorityOption, as_json: JsonOption = False) -> None:
    """\b
    Example:
      pki list --authority ca

    List the certificates that were issued, the first to expire first.
    """
    leaves = [record for record in AuthorityStore.open(authority).records() if record.identity]
    leaves.sort(key=lambda record: record.certificate.not_valid_after_utc)
    if as_json:
        _print_json([record.to_json() for record in leaves])
        return
    headings = ("name", "role", "hosts", "expires (UTC)", "serial")
    rows = [
        (
            record.identity.name,
            str(record.identity.role),
            " ".join(record.hosts),
            _day(record.certificate),
            record.serial,
        )
        for record in leaves
        if record.identity
    ]
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(row))
        return
    table = Table(*headings, box=None)
    for row in rows:
        table.add_row(*row)
    Console().print(table)


@app.command(short_help="Show one certificate.")
def show(
    which: Annotated[str, typer.Argument(metavar="NAME|SERIAL", help="A name (its newest) or a serial number.")],
    authority: AuthorityOption,
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki show worker-1 --authority ca

    Show one certificate: who, until when, by whom it was issued, and the PEM.
    """
    record = _find(AuthorityStore.open(authority).records(), which)
    if as_json:
        _print_json(record.to_json())
        return
    fields = record.to_json()
    pem = fields.pop("certificate")
    for key, value in fields.items():
        print(f"{key.replace('_', ' '):<12}{' '.join(value) if isinstance(value, list) else value or '-'}")
    print(pem, end="")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0, 1 (failed) or 2 (used wrongly)."""
    try:
        code = app(args=argv, prog_name="pki", standalone_mode=False)
    except typer.TyperException as error:
        return _fail(f"{error.format_message().rstrip('.')}; see --help", error.exit_code)
    except PkiError as error:
        return _fail(str(error), 1)
    except typer.Abort:
        return _fail("stopped", 1)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _passphrase(file: Path | None) -> bytes:
    if file is not None:
        text = read_private(file).decode("utf-8", "replace").rstrip("\r\n")
    elif _PASSPHRASE_VARIABLE in os.environ:
        text = os.environ[_PASSPHRASE_VARIABLE]
    elif sys.stdin.isatty():
        text = typer.prompt("Passphrase for the root's key", hide_input=True, confirmation_prompt=True)
    else:
        raise StoreError(f"no passphrase for the root's key: give --passphrase-file or {_PASSPHRASE_VARIABLE}")
    if len(text) < _PASSPHRASE_LENGTH:
        raise StoreError(f"passphrase is shorter than {_PASSPHRASE_LENGTH} characters: take a longer one")
    return text.encode()


def _find(records: Sequence[Record], which: str) -> Record:
    for record in reversed(records):
        if record.serial == which.lower().lstrip("0") or (record.identity and record.identity.name == which):
            return record
    raise StoreError(f"{which!r} is neither a name nor a serial number of this authority: see `pki list`")


def _user() -> str:
    try:
        user = os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # a user without an entry in the passwd file, as in containers
        user = f"uid {os.getuid()}"
    return f"{user}@{platform.node()}"


def _issued_json(issued: Issued, out: Path) -> dict[str, object]:
    files = TlsFiles.in_directory(out / issued.identity.name)
    return {
        "name": issued.identity.name,
        "role": issued.identity.role,
        "identity": issued.identity.uri,
        "serial": f"{issued.certificate.serial_number:x}",
        "not_after": issued.certificate.not_valid_after_utc.isoformat(),
        "certificate": str(files.certificate),
        "key": str(files.key),
        "ca": str(files.ca),
    }


def _day(certificate: x509.Certificate) -> str:
    return f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M}"


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2))
