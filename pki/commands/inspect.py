"""`pki list`, `show`, `status` and `audit`."""

from datetime import datetime
from typing import Annotated

import typer
from cryptography.x509.oid import ExtendedKeyUsageOID

from pki.checks import audit as auditing
from pki.checks import expiry as expiring
from pki.checks.expiry import Row
from pki.checks.inspection import serves
from pki.commands.common import (
    AuthorityOption,
    JsonOption,
    app,
    names,
    now,
    open_for_reading,
    print_json,
    print_table,
)
from pki.errors import StoreError
from pki.store.ledger import LedgerEvent, LedgerRecord
from pki.store.state import AuthorityState, LeafEntry
from pki.store.store import AuthorityStore, serial_argument
from pki.timespans import day, parse_span, remaining

_USES = {"serving": ExtendedKeyUsageOID.SERVER_AUTH, "dialling": ExtendedKeyUsageOID.CLIENT_AUTH}


@app.command("list", short_help="List what was issued.")
def list_(authority: AuthorityOption, as_json: JsonOption = False) -> None:
    """\b
    Example:
      pki list --authority ca

    List the certificates that were issued, the first to expire first.
    """
    register, moment = open_for_reading(authority).register, now()
    leaves = sorted(register.leaves, key=lambda leaf: leaf.certificate.not_valid_after_utc)
    if as_json:
        print_json([_leaf_json(register, leaf, moment) for leaf in leaves])
        return
    rows = [
        (
            leaf.identity.name,
            str(leaf.identity.role),
            " ".join(leaf.record.hosts),
            day(leaf.certificate.not_valid_after_utc),
            leaf.record.serial,
            str(register.status_of(leaf, moment)),
        )
        for leaf in leaves
    ]
    print_table(("name", "role", "hosts", "expires (UTC)", "serial", "standing"), rows)


@app.command(short_help="Show one certificate.")
def show(
    which: Annotated[
        str,
        typer.Argument(metavar="NAME|SERIAL", help="A name (its newest) or a serial number.", autocompletion=names),
    ],
    authority: AuthorityOption,
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki show worker-1 --authority ca

    Show one certificate: subject, validity, issuer, permitted uses, and the PEM.
    """
    store = open_for_reading(authority)
    fields = _found(store, which, now())
    if as_json:
        print_json(fields)
        return
    pem = fields.pop("certificate")
    for key, value in fields.items():
        print(f"{key.replace('_', ' '):<12}{' '.join(value) if isinstance(value, list) else value or '-'}")
    print(pem, end="")


@app.command(short_help="Show what expires next, and what to do.")
def status(
    authority: AuthorityOption,
    *,
    within: Annotated[
        str | None,
        typer.Option(help="Treat certificates that expire within this period (e.g. 14d) as late; default: by type."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki status --authority ca

    List CAs, revocation lists and every member's certificate, the first to expire first. Exit code 1 when one is
    late: expired, not valid yet because the clock was ahead when it was signed, or past the time at which the usual
    renewal should have happened (a leaf's last quarter).
    """
    span = None if within is None else parse_span(within)
    store, moment = open_for_reading(authority), now()
    rows = expiring.expiry_rows(store, moment, span)
    step = expiring.next_step(store.register)
    if as_json:
        items = [
            {
                "level": row.level,
                "kind": row.kind,
                "name": row.name,
                "not_after": row.not_after.isoformat(),
                "seconds_left": int((row.not_after - moment).total_seconds()),
                "not_yet_valid": row.not_yet_valid,
                "cure": row.cure or None,
            }
            for row in rows
        ]
        print_json({"items": items, "next": step})
    else:
        table = [
            (str(row.level), row.kind, row.name, day(row.not_after), _left(row, moment), row.cure) for row in rows
        ]
        print_table(("", "what", "name", "expires (UTC)", "in", "what to do"), table)
        if step:
            print(f"next: {step}")
    if any(row.is_alarming for row in rows):
        raise typer.Exit(1)


@app.command(short_help="Show and verify the ledger of every operation.")
def audit(
    authority: AuthorityOption,
    *,
    head: Annotated[
        str | None, typer.Option(help="Hash at the end of an earlier audit, which must be part of this one.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """\b
    Example:
      pki audit --authority ca

    List who did what and when, and verify it: the chain of hashes, every signature, and the files beside it.
    Note the hash it ends with: given back as --head later, it also shows whether lines were cut off.
    """
    store, moment = open_for_reading(authority), now()
    faults, notes = list(auditing.faults(store, moment, head)), list(auditing.notes(store, moment))
    if as_json:
        events = [record.to_json() for record in store.records()]
        print_json(
            {"whole": not faults, "faults": faults, "notes": notes, "head": store.ledger.head, "events": events}
        )
    else:
        print_table(("when (UTC)", "what", "who", "serial", "by"), [_line(record) for record in store.records()])
        for fault in faults:
            print(f"fault: {fault}")
        for note in notes:
            print(f"note: {note}")
        if store.ledger.torn:
            print("truncated last line (interrupted write); the next command overwrites it")
        verdict = f"{len(faults)} fault{'s' * (len(faults) > 1)}" if faults else "whole"
        print(f"{verdict}: {len(store.records())} events, head {store.ledger.head}")
    if faults:
        raise typer.Exit(1)


def _left(row: Row, moment: datetime) -> str:
    return "not valid yet" if row.not_yet_valid else remaining(row.not_after - moment)


def _line(record: LedgerRecord) -> tuple[str, str, str, str, str]:
    what = str(record.event)
    if record.reason is not None:
        what += f" ({record.reason})"
    if record.number is not None:
        what += f" {record.number}"
    who = record.identity.name if record.identity else record.certificate.subject.rfc4514_string()
    return day(record.at), what, who, record.serial, record.by


def _found(store: AuthorityStore, which: str, moment: datetime) -> dict[str, object]:
    register = store.register
    if which in register.newest:
        return _leaf_json(register, register.newest[which], moment)
    serial = serial_argument(which)
    for leaf in register.leaves:
        if leaf.serial == serial:
            return _leaf_json(register, leaf, moment)
    for record in store.records():
        if record.event is LedgerEvent.CREATED and record.certificate.serial_number == serial:
            return record.to_json()
    raise StoreError(f"{which!r} is neither a name nor a serial number of this authority: see `pki list`")


def _leaf_json(register: AuthorityState, leaf: LeafEntry, moment: datetime) -> dict[str, object]:
    revocation = register.revocations.get(leaf.serial)
    fields = leaf.record.to_json()
    pem = fields.pop("certificate")
    fields["issuer"] = leaf.certificate.issuer.rfc4514_string()
    fields["good_for"] = [use for use, purpose in _USES.items() if serves(leaf.certificate, purpose)]
    fields["standing"] = register.status_of(leaf, moment)
    if revocation is not None:
        fields |= {"revoked": revocation.at.isoformat(), "reason": revocation.reason}
    return {**fields, "certificate": pem}
