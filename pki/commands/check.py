"""`pki verify` and `pki simulate`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from pki.checks import simulation
from pki.checks.inspection import Expectation, Finding, inspect, read_chain
from pki.commands.common import HostOption, JsonOption, app, now, print_json
from pki.errors import PkiError, RevocationError, StoreError
from pki.files import TlsFiles, read_file
from pki.store.store import AuthorityStore
from pki.timespans import day, parse_time
from pki.tls.credential import Credential
from pki.x509.crl import RevocationLists
from pki.x509.identity import Role

AtOption = Annotated[str | None, typer.Option(help="As it will be then: +30d, 2026-07-01, 2026-07-01T12:00Z.")]


@app.command(short_help="Report everything that is wrong with a certificate.")
def verify(
    certificate: Annotated[Path, typer.Argument(metavar="CERT", help="PEM file, or a directory that has one.")],
    *,
    authority: Annotated[
        Path | None,
        typer.Option("--authority", "-a", envvar="PKI_AUTHORITY", help="Check it against this authority's ledger."),
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="Trusted roots; by default ca.pem beside it.")] = None,
    crl: Annotated[Path | None, typer.Option(help="Revocation lists; by default crl.pem beside it.")] = None,
    host: HostOption = None,
    role: Annotated[Role | None, typer.Option(help="Required role.")] = None,
    name: Annotated[str | None, typer.Option(help="Required name.")] = None,
    at: AtOption = None,
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki verify certs/worker-1 --host 192.168.1.20 --authority ca

    Name every fault of a certificate: dates, chain, names, networks, purposes, key, revocation. With a directory
    the key and the other files are looked at, too; with --authority also what only the ledger knows. A note says
    what other TLS stacks refuse (rustls, GnuTLS, Java) although nothing of this network does.
    """
    moment = now() if at is None else parse_time(at, now())
    files = TlsFiles.in_directory(certificate) if certificate.is_dir() else None
    path = certificate if files is None else files.certificate
    chain = read_chain(path)
    store = None if authority is None else AuthorityStore.open(authority)
    expected = Expectation(
        roots=_roots(path, ca, store),
        lists=_lists(path, crl),
        hosts=tuple(host or ()),
        role=role,
        name=name,
        scope=None if store is None else store.scope,
        register=None if store is None else store.register,
    )
    found = inspect(chain, expected, moment)
    faults = list(found.faults)
    if files is not None and not faults:
        try:
            Credential.read(files, moment)
        except PkiError as error:
            faults.append(str(error))
    _report(path, found, faults, as_json=as_json)


@app.command(short_help="Name every link of a deployment that will break.")
def simulate(
    *,
    at: Annotated[str, typer.Option(help="When: +30d, 2026-07-01, 2026-07-01T12:00Z.")],
    inventory: Annotated[Path, typer.Option(help="YAML inventory: members and their addresses.")],
    certs: Annotated[
        Path, typer.Option(help="CERTS/NAME/ holds certificate.pem, ca.pem and crl.pem as they are on the host.")
    ] = Path(),
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki simulate --at +30d --inventory hosts.yml --certs certs

    Try every connection of the network at a later time: each end verifies the other with the roots and the lists
    that lie on its disk. Exit code 1 when one breaks, so that a deployment can be held back.
    """
    from pki.checks.inventory import read_inventory  # noqa: PLC0415  # YAML is a fifth of every command's start-up

    moment = parse_time(at, now())
    specs = read_inventory(inventory)
    breaks, links = simulation.simulate(specs, certs, moment)
    notes = simulation.notes(specs, certs)
    if as_json:
        found = [_break_json(one) for one in breaks]
        print_json({"at": moment.isoformat(), "links": links, "breaks": found, "notes": notes})
    else:
        for note in notes:
            print(f"note: {note}")
        for one in breaks:
            print(f"{one.fault.cause}: {one.fault.member} {one.fault.reason}")
            for link in one.links:
                print(f"  breaks {link}")
        broken = len({link for one in breaks for link in one.links})
        print(f"{day(moment)} UTC: {broken} of {links} links break")
    if breaks:
        raise typer.Exit(1)


def _roots(path: Path, ca: Path | None, store: AuthorityStore | None) -> Sequence[x509.Certificate]:
    if ca is None and store is not None:
        return [root.certificate for root in store.register.roots]
    beside = path.parent / "ca.pem" if ca is None else ca
    if not beside.exists():
        raise StoreError(f"{beside} is missing: give the trusted roots with --ca or --authority")
    return read_chain(beside)


def _lists(path: Path, crl: Path | None) -> RevocationLists | None:
    beside = path.parent / "crl.pem" if crl is None else crl
    if crl is None and not beside.exists():
        return None
    try:
        return RevocationLists.read(read_file(beside))
    except RevocationError as error:
        raise RevocationError(f"{beside} {error}") from None


def _report(path: Path, found: Finding, faults: list[str], *, as_json: bool) -> None:
    chain = [certificate.subject.rfc4514_string() for certificate in found.path]
    if as_json:
        identity = None if found.identity is None else found.identity.uri
        notes = list(found.notes)
        print_json({"ok": not faults, "identity": identity, "chain": chain, "faults": faults, "notes": notes})
    else:
        for fault in faults:
            print(f"{path}: {fault}")
        if not faults:
            leaf, who = found.path[0], found.identity
            print(f"{path} is good: {who}, until {day(leaf.not_valid_after_utc)} UTC")
            print(f"chain: {' → '.join(chain)}")
        for note in found.notes:
            print(f"note: {note}")
    if faults:
        raise typer.Exit(1)


def _break_json(one: simulation.Break) -> dict[str, object]:
    return {
        "cause": one.fault.cause,
        "member": one.fault.member,
        "reason": one.fault.reason,
        "links": [{"from": link.dialler, "to": link.server, "address": link.address} for link in one.links],
    }
