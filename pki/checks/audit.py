"""Audit of an authority: consistency of the ledger, its signatures, and the files beside it."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from pki.errors import PkiError
from pki.store import crls
from pki.store.ledger import LedgerEvent
from pki.store.state import Ca
from pki.store.store import AuthorityStore
from pki.x509 import compatibility
from pki.x509.crl import signed_by

_MAKING = frozenset({LedgerEvent.CREATED, LedgerEvent.ISSUED, LedgerEvent.SIGNED, LedgerEvent.RENEWED})


def faults(store: AuthorityStore, now: datetime, head: str | None = None) -> Iterator[str]:
    """Yield every fault as one line. Opening the store has already verified the hash chain.

    `head` is the hash that an earlier audit ended with. If it is not in the chain, lines were cut off or rewritten,
    which the chain alone cannot show.
    """
    if head is not None and head not in store.ledger.heads:
        yield f"ledger does not contain {head}: it was cut or rewritten since that was noted; restore an intact copy"
    yield from _certificate_faults(store)
    register = store.register
    for ca in (*register.roots, *register.issuers):
        yield from _fault(store.directory.check, ca)
    for ca in register.issuers:
        yield from _fault(store.directory.issuer_key, ca)
    for ca in register.retired:
        path = store.directory.key_path(ca)
        if not ca.is_root and path.exists():
            yield f"{path} is of a retired CA: run the rotation's --finish again"
    yield from _validity_start_faults(store, now)
    yield from _list_faults(store, now)


def notes(store: AuthorityStore, now: datetime) -> Iterator[str]:
    """Yield a line for each certificate in use that other TLS stacks refuse; these are not faults of the ledger."""
    register = store.register
    leaves = (leaf.certificate for leaf in register.members() if now < leaf.certificate.not_valid_after_utc)
    yield from compatibility.chain_notes((register.signing.certificate, *leaves))


def _certificate_faults(store: AuthorityStore) -> Iterator[str]:
    made = [record for record in store.records() if record.event in _MAKING]
    for serial, count in Counter(record.serial for record in made).items():
        if count > 1:
            yield f"serial number {serial} was given {count} times: replace the issuing CA"
    cas = [record.certificate for record in made if record.event is LedgerEvent.CREATED]
    for record in made:
        certificate = record.certificate
        issuer = next((ca for ca in cas if ca.subject == certificate.issuer), None)
        if issuer is None or not _signed(certificate, issuer):
            yield f"{record.serial} ({certificate.subject.rfc4514_string()}) was not signed by a CA of this ledger"
        elif certificate.not_valid_after_utc > issuer.not_valid_after_utc:
            yield f"{record.serial} ({certificate.subject.rfc4514_string()}) outlives its issuer"
    known = {record.certificate.serial_number for record in made}
    for record in store.records():
        if record.event is LedgerEvent.REVOKED and record.certificate.serial_number not in known:
            yield f"{record.serial} was revoked and never issued"


def _validity_start_faults(store: AuthorityStore, now: datetime) -> Iterator[str]:
    """Yield certificates that were signed while the clock was ahead and are not valid yet."""
    register = store.register
    cures = [(root.certificate, "pki rotate-root") for root in register.roots]
    cures += [(ca.certificate, "pki rotate-issuer") for ca in register.issuers]
    cures += [(leaf.certificate, f"pki renew {leaf.identity.name}") for leaf in register.members()]
    for certificate, cure in cures:
        begin = certificate.not_valid_before_utc
        if now < begin:
            subject = certificate.subject.rfc4514_string()
            yield f"{subject} is not valid before {begin:%Y-%m-%d %H:%M} UTC: check the clock, then run `{cure}`"


def _list_faults(store: AuthorityStore, now: datetime) -> Iterator[str]:
    register, directory = store.register, store.directory
    for ca in (*register.issuers, *register.roots):
        if ca.serial not in register.numbers or now >= ca.certificate.not_valid_after_utc:
            continue
        try:
            one = directory.revocation_list(ca)
        except PkiError as error:
            yield str(error)
            continue
        cure = "run `pki rotate-issuer --finish` again" if ca in register.roots else "run `pki crl`"
        if one is None:
            yield f"the revocation list of {ca.stem} is missing: {cure}"
        elif not signed_by(one, ca.certificate):
            yield f"the revocation list of {ca.stem} is not its own: {cure}"
        elif one.last_update_utc > now:  # may lack certificates that expire before then
            begin = f"{one.last_update_utc:%Y-%m-%d %H:%M} UTC"
            yield f"the revocation list of {ca.stem} is not valid before {begin}: check the clock, then {cure}"
        elif not crls.is_complete(register, ca, one, now):
            yield f"the revocation list of {ca.stem} is not its last one: {cure}"


def _fault(check: Callable[[Ca], object], ca: Ca) -> Iterator[str]:
    try:
        check(ca)
    except PkiError as error:
        yield str(error)


def _signed(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
