"""`pki issue`, `request`, `sign` and `renew`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from pki.ca.csr import SigningRequest, create_request
from pki.ca.issued import IssuedCertificate, IssuedIdentity
from pki.ca.specification import CertificateSpec
from pki.commands.common import (
    AuthorityOption,
    DaysOption,
    HostOption,
    JsonOption,
    OutOption,
    app,
    life,
    names,
    now,
    open_store,
    print_json,
    user,
)
from pki.errors import RequestError
from pki.files import TlsFiles, create_directory, read_file
from pki.timespans import day
from pki.x509.identity import Role
from pki.x509.serials import format_serial


@app.command(short_help="Make keys and certificates.")
def issue(
    name: Annotated[str | None, typer.Argument(help="Name of the node or person, like coordinator-1.")] = None,
    *,
    authority: AuthorityOption,
    role: Annotated[Role | None, typer.Option(help="What it is, which decides what it may do.")] = None,
    host: HostOption = None,
    inventory: Annotated[
        Path | None, typer.Option(help="Issue for every host of a YAML inventory instead of one NAME.")
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="With --inventory: skip names that exist in OUT.")
    ] = False,
    out: OutOption = Path(),
    days: DaysOption = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Overwrite the key and certificate in OUT/NAME/.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki issue worker-1 --role worker --host 192.168.1.20 --authority ca --out certs
      pki issue --inventory hosts.yml --authority ca --out certs

    Make keys and certificates, and write OUT/NAME/ with certificate.pem, key.pem, ca.pem and crl.pem. In an
    inventory a group named after a role (coordinators, workers, …) or with the variable pki_role gives its hosts
    that role; ansible_host and pki_hosts are their addresses.
    """
    if inventory is None:
        if name is None or role is None:
            raise typer.BadParameter("Missing NAME or --role: give both, or --inventory")
        if missing:
            raise typer.BadParameter("--missing belongs to --inventory")
        specs = [CertificateSpec(name, role, tuple(host or ()), life(days))]
    else:
        if name or role or host:
            raise typer.BadParameter("--inventory gives names, roles and hosts: omit the options for these")
        from pki.checks.inventory import read_inventory  # noqa: PLC0415  # YAML is a fifth of the command's start-up

        specs = [CertificateSpec(one.name, one.role, one.hosts, life(days)) for one in read_inventory(inventory)]
        if missing:
            specs = [spec for spec in specs if not (out / spec.name).exists()]
    store = open_store(authority)
    issued = store.issue(specs, out, now=now(), by=user(), replace=replace) if specs else []
    _report(issued, out, as_json=as_json)


@app.command(short_help="Make a key, and a request for its certificate.")
def request(
    name: Annotated[str, typer.Argument(help="Name of the node or person, like worker-1.")],
    *,
    host: HostOption = None,
    out: OutOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki request worker-1 --host 192.168.1.20 --out certs

    On the host: make OUT/NAME/ with key.pem, which stays there, and request.csr, which goes to the authority
    (`pki sign`). The certificate that comes back is put beside the key.
    """
    asked = create_request(name, host or ())
    target = out / asked.name
    contents = {"key.pem": (asked.key_pem, 0o600), "request.csr": (asked.request_pem, 0o644)}
    create_directory(target, contents, mode=0o755)
    if as_json:
        print_json({"name": name, "key": str(target / "key.pem"), "request": str(target / "request.csr")})
        return
    print(f"request in {target / 'request.csr'}; the key stays in {target / 'key.pem'}")


@app.command(short_help="Certify the key of a request.")
def sign(
    file: Annotated[Path, typer.Argument(metavar="FILE.csr", help="What `pki request` made.")],
    *,
    name: Annotated[str, typer.Option(help="Name of the node or person.")],
    role: Annotated[Role, typer.Option(help="What it is, which decides what it may do.")],
    authority: AuthorityOption,
    host: HostOption = None,
    out: OutOption = Path(),
    days: DaysOption = None,
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki sign request.csr --name worker-1 --role worker --host 192.168.1.20 --authority ca --out certs

    Certify a key that was made elsewhere, and write OUT/NAME/ without a key. The request has to ask for this name
    and these hosts; whatever else it asks for is ignored, the role decides.
    """
    spec = CertificateSpec(name, role, tuple(host or ()), life(days))
    try:
        asked = SigningRequest.read(read_file(file))
        certified = open_store(authority).sign(asked, spec, out, now=now(), by=user())
    except RequestError as error:
        raise RequestError(f"{file} {error}") from None
    _report([certified], out, as_json=as_json)


@app.command(short_help="Certify members again, before or after they expire.")
def renew(
    name: Annotated[list[str] | None, typer.Argument(help="Names to renew.", autocompletion=names)] = None,
    *,
    authority: AuthorityOption,
    due: Annotated[
        bool,
        typer.Option(
            "--due",
            help="Everything that `pki status` reports as due, and members whose certificate in OUT "
            "is not their newest.",
        ),
    ] = False,
    keep_key: Annotated[bool, typer.Option("--keep-key", help="Certify the same key again.")] = False,
    out: OutOption = Path(),
    days: DaysOption = None,
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki renew --due --authority ca --out certs
      pki renew worker-1 --authority ca --out certs

    Certify members again with the role and hosts they have, and replace what is in OUT/NAME/. Keys are new; the
    key of a request is kept, because only its host can make another (`pki request`, `pki sign`).
    """
    if bool(name) is due:
        raise typer.BadParameter("Missing NAME: give names, or --due")
    store = open_store(authority)
    wanted = None if due else name
    renewed = store.renew(wanted, out, now=now(), by=user(), keep_key=keep_key, life=life(days))
    if not renewed and not as_json:
        print("nothing is due")
        return
    _report(renewed, out, as_json=as_json)


def _report(made: Sequence[IssuedIdentity | IssuedCertificate], out: Path, *, as_json: bool) -> None:
    if as_json:
        print_json([_json(one, out) for one in made])
        return
    for one in made:
        who = one.identity
        key = "" if isinstance(one, IssuedIdentity) else ", its key is on the host"
        print(f"{who.role} {who.name} until {day(one.certificate.not_valid_after_utc)} in {out / who.name}{key}")


def _json(made: IssuedIdentity | IssuedCertificate, out: Path) -> dict[str, object]:
    files = TlsFiles.in_directory(out / made.identity.name)
    return {
        "name": made.identity.name,
        "role": made.identity.role,
        "identity": made.identity.uri,
        "serial": format_serial(made.certificate.serial_number),
        "not_after": made.certificate.not_valid_after_utc.isoformat(),
        "certificate": str(files.certificate),
        "key": str(files.key) if isinstance(made, IssuedIdentity) else None,
        "ca": str(files.ca),
        "crl": None if made.crl_pem is None else str(files.crl),
    }
