"""`zkp admin revoke` and `zkp admin revoked`: revoke certificates and list the revoked ones."""

import asyncio
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509

from pki.errors import RevocationError, SerialError
from pki.tls.credential import Credential
from pki.tls.material import TlsFiles
from pki.x509.crl import Reason, RevocationLists, signed_by
from pki.x509.serials import format_serial, parse_serial
from zkp.cli import output
from zkp.cli.errors import CommandFailed, UsageProblem
from zkp.cli.target import ClusterTarget, Coordinators, Directory, Identity, find_cluster
from zkp.client import task_json
from zkp.client.admin import AdminClient, Revocation, RevocationResult
from zkp.localcluster.layout import ADMIN, DEFAULT_DIRECTORY

_COLUMNS = ("serial", "holder", "reason", "revoked (UTC)", "expires by (UTC)")

Revoked = list[tuple[str, str]]
"""Serial and reason of each."""


def revoke(
    serials: Annotated[
        list[str] | None, typer.Argument(metavar="SERIAL", help="Hexadecimal serial numbers, as shown by `pki list`.")
    ] = None,
    *,
    crl: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Revoke the certificates in these revocation lists.")
    ] = None,
    reason: Annotated[Reason, typer.Option(help="Reason, stored with the revocation.")] = Reason.UNSPECIFIED,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Example: zkp admin revoke 5d1c0a9b --reason key-compromise

    Revoke certificates: every node refuses them within a second and closes their holders' connections, and a worker's
    tasks are assigned to others. This cannot be undone. To add them to the authority's revocation list too, use
    `pki revoke`. The output names the holder of each certificate, or states that the leader knows no member with it.
    """
    if not serials and crl is None:
        raise UsageProblem("nothing to revoke; give serial numbers or --crl FILE")
    wanted = [(_serial(text), str(reason)) for text in serials or ()]
    target = find_cluster(coordinators, identity, directory, role=ADMIN)
    if crl is not None:
        wanted += _listed(crl, target)

    async def ask() -> RevocationResult:
        async with target.connect() as connection:
            return await AdminClient(connection).revoke(wanted)

    result = asyncio.run(ask())
    if as_json:
        output.as_json({"revoked": result.new, "revocations": [_to_json(one) for one in result.revocations]})
        return
    before = len(wanted) - result.new
    output.line(f"revoked: {result.new}" + (f"; already revoked: {before}" if before else ""))
    for one in dict.fromkeys(result.revocations):
        output.line(_outcome(one))


def revoked(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    coordinators: Coordinators = None,
    identity: Identity = None,
    directory: Directory = DEFAULT_DIRECTORY,
) -> None:
    """Example: zkp admin revoked --json

    List the revoked certificates. Expired ones may be left out.
    """
    target = find_cluster(coordinators, identity, directory, role=ADMIN)

    async def ask() -> list[Revocation]:
        async with target.connect() as connection:
            return await AdminClient(connection).revocations()

    found = asyncio.run(ask())
    if as_json:
        output.as_json([_to_json(one) for one in found])
    else:
        output.table("Revoked certificates", _COLUMNS, [_row(one) for one in found])


def _serial(text: str) -> str:
    """Return the serial number in the format of the coordinators' API."""
    try:
        return f"{parse_serial(text):x}"
    except SerialError as error:
        raise UsageProblem(str(error)) from None


def _outcome(one: Revocation) -> str:
    serial = _shown(one.serial)
    if one.subject:
        return f"{serial} is the certificate of {one.subject}"
    return (
        f"{serial}: no member with this serial number is known to the leader; "
        "compare it with `pki list`, and revoke the right one if it is wrong"
    )


def _shown(serial: str) -> str:
    return format_serial(int(serial, 16))


def _listed(file: Path, target: ClusterTarget) -> Revoked:
    """Return the entries of the lists in the file that are signed by an issuer or root of the identity."""
    known = Credential.read(TlsFiles.in_directory(target.identity), datetime.now(UTC)).issuers
    try:
        lists = RevocationLists.read(file.read_bytes()).lists
    except RevocationError as error:
        raise CommandFailed(f"{file}: {error}") from None
    signed = [one for one in lists if any(_is_of(one, authority) for authority in known)]
    if not signed:
        raise CommandFailed(
            f"{file}: contains no list signed by an authority known to {target.identity}; "
            "give the one that `pki crl` of this network writes"
        )
    for one in lists:
        if one not in signed:
            output.note(f"skipped the list of {one.issuer.rfc4514_string()}, which is not known to {target.identity}")
    found = [entry for one in signed for entry in _entries(one)]
    if not found:
        raise CommandFailed(f"{file}: contains no certificate; there is nothing to revoke")
    return found


def _is_of(one: x509.CertificateRevocationList, authority: x509.Certificate) -> bool:
    return one.issuer == authority.subject and signed_by(one, authority)


def _entries(one: x509.CertificateRevocationList) -> Iterator[tuple[str, str]]:
    for entry in one:
        try:
            flag = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        except x509.ExtensionNotFound:
            flag = x509.ReasonFlags.unspecified
        yield f"{entry.serial_number:x}", next((str(reason) for reason in Reason if reason.flag is flag), flag.value)


def _row(one: Revocation) -> tuple[str, ...]:
    return _shown(one.serial), one.subject, one.reason, _time(one.revoked_at), _time(one.not_after)


def _time(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}"


def _to_json(one: Revocation) -> dict[str, object]:
    return {
        **asdict(one),
        "serial": _shown(one.serial),
        "revoked_at": task_json.timestamp(one.revoked_at),
        "not_after": task_json.timestamp(one.not_after),
    }
