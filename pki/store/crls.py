"""CRLs of an authority: which it distributes, which are due, and signing them.

Every distribution includes CRLs that are at most a day old and complete. A leaf and a CRL have the same validity, so
a timely renewal also brings a current CRL. (An authority from before CRLs were supported has none until the first
`pki crl`.)
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from cryptography import x509

from pki.ca.profiles import CRL_LIFE
from pki.ca.signing import sign_crl
from pki.errors import StoreError
from pki.store.directory import AuthorityDirectory
from pki.store.ledger import LedgerEvent, LedgerRecord
from pki.store.state import AuthorityState, Ca
from pki.x509.crl import expiry

_AGE = timedelta(days=1)

Crls = dict[Ca, x509.CertificateRevocationList]


def in_use(directory: AuthorityDirectory, register: AuthorityState) -> Crls:
    """Return the CRLs to distribute; none until the signing CA has one.

    CRLs of retired issuing CAs are included until they expire, for verifiers that still accept their leaves.
    """
    signing = directory.revocation_list(register.signing)
    if register.signing.serial not in register.numbers or signing is None:
        return {}
    lists = {register.signing: signing}
    retired = (ca for ca in register.retired if register.root_of(ca) is not None)
    for ca in (*register.issuers, *register.roots, *retired):
        one = directory.revocation_list(ca)
        if one is not None and expiry(one) > signing.last_update_utc:
            lists[ca] = one
    return lists


def due(directory: AuthorityDirectory, register: AuthorityState, now: datetime) -> list[Ca]:
    """Return the issuing CAs whose CRL must be signed before any distribution."""
    if register.signing.serial not in register.numbers:
        return []
    late = []
    for ca in register.issuers:
        if not _is_valid(ca, now):
            continue
        one = directory.revocation_list(ca)
        if one is None or not is_fresh(one, now) or not is_complete(register, ca, one, now):
            late.append(ca)
    return late


def effective(register: AuthorityState, held: Crls, now: datetime) -> Crls:
    """Return the CRLs of `held` that are valid at `now`; verifiers refuse all peers while a CRL is not valid yet.

    CRLs of unused CAs are omitted: retired ones, and those that are not valid yet and do not sign.

    Raises:
        StoreError: the CRL of a CA in use begins after `now`.
    """
    for ca, one in held.items():
        if one.last_update_utc > now and (ca.is_root or ca == register.signing or _is_used(register, ca, now)):
            raise StoreError(
                f"the revocation list of {ca.stem} begins at {one.last_update_utc:%Y-%m-%d %H:%M} UTC, and it is "
                f"{now:%Y-%m-%d %H:%M}: check this machine's clock; if it is right, {_cure(ca, now)}"
            )
    return {ca: one for ca, one in held.items() if one.last_update_utc <= now}


def is_fresh(one: x509.CertificateRevocationList, now: datetime) -> bool:
    """Return whether a CRL is valid at `now` and at most a day old.

    A CRL that was signed while the clock was ahead begins in the future, and verifiers refuse it until then.
    """
    return one.last_update_utc <= now < one.last_update_utc + _AGE


def is_complete(register: AuthorityState, ca: Ca, one: x509.CertificateRevocationList, now: datetime) -> bool:
    """Return whether a CRL is the CA's latest and contains all revocations of the ledger."""
    number = one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    if number < register.numbers.get(ca.serial, 0):
        return False
    named = {entry.serial_number for entry in one}
    return all(revocation.serial in named for revocation in register.revoked_by(ca, now))


def sign(
    directory: AuthorityDirectory,
    register: AuthorityState,
    cas: Iterable[Ca],
    now: datetime,
    life: timedelta = CRL_LIFE,
) -> Crls:
    """Sign new CRLs of issuing CAs with all revocations in `register`.

    CAs that are not valid at `now` are skipped.
    """
    return {
        ca: sign_crl(
            directory.issuer_key(ca),
            register.revoked_by(ca, now),
            number=next_number(register, ca),
            now=now,
            life=life,
        )
        for ca in cas
        if _is_valid(ca, now)
    }


def _is_used(register: AuthorityState, ca: Ca, now: datetime) -> bool:
    return ca in register.issuers and _is_valid(ca, now)


def _cure(ca: Ca, now: datetime) -> str:
    if not _is_valid(ca, now):
        return "replace the CA with `pki rotate-issuer`"
    again = "`pki rotate-issuer --finish` and the root's key" if ca.is_root else "`pki crl`"
    return f"sign the list again with {again}"


def _is_valid(ca: Ca, now: datetime) -> bool:
    return ca.certificate.not_valid_before_utc <= now < ca.certificate.not_valid_after_utc


def records(register: AuthorityState, lists: Crls, now: datetime, by: str) -> list[LedgerRecord]:
    """Return the ledger records of new CRLs; `register` is the state before them."""
    return [LedgerRecord(LedgerEvent.CRL, now, by, ca.certificate, number=next_number(register, ca)) for ca in lists]


def next_number(register: AuthorityState, ca: Ca) -> int:
    """Return the number of a CA's next CRL."""
    return register.numbers.get(ca.serial, 0) + 1
