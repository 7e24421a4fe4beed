"""The revocation lists of an authority: which it gives to everybody, which are due, and signing them.

Whatever is handed out carries lists that are at most a day old and name everything that was revoked. A leaf lives
as long as a list does: who is renewed in time has a good list, too. (An authority made before there were lists has
none until the first `pki crl`.)
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
    """The lists that every holder is given; none until the CA that signs has one.

    Retired issuing CAs keep theirs until it expires: it names the leaves that verifiers might still know.
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
    """The issuing CAs whose list has to be signed before anything is handed out."""
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


def begun(register: AuthorityState, held: Crls, now: datetime) -> Crls:
    """The lists of `held` that may be handed out at `now`: verifiers refuse everybody while a list has not begun.

    Left out is the list of a CA that nobody uses: one that is retired, or not valid yet and not the one that signs.

    Raises:
        StoreError: the list of another CA begins after `now`.
    """
    for ca, one in held.items():
        if one.last_update_utc > now and (ca.is_root or ca == register.signing or _is_used(register, ca, now)):
            raise StoreError(
                f"the revocation list of {ca.stem} begins at {one.last_update_utc:%Y-%m-%d %H:%M} UTC, and it is "
                f"{now:%Y-%m-%d %H:%M}: check this machine's clock; if it is right, {_cure(ca, now)}"
            )
    return {ca: one for ca, one in held.items() if one.last_update_utc <= now}


def is_fresh(one: x509.CertificateRevocationList, now: datetime) -> bool:
    """Whether a list is valid at `now` and at most a day old.

    A list that a clock ahead of time has signed begins in the future, and verifiers refuse it until then.
    """
    return one.last_update_utc <= now < one.last_update_utc + _AGE


def is_complete(register: AuthorityState, ca: Ca, one: x509.CertificateRevocationList, now: datetime) -> bool:
    """Whether a CA's list is its last one, and names all that the ledger takes back."""
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
    """New lists of issuing CAs, complete by `register`.

    A CA whose life is over or has not begun signs none.
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
    """The lines that tell of new lists; `register` is as it was before them."""
    return [LedgerRecord(LedgerEvent.CRL, now, by, ca.certificate, number=next_number(register, ca)) for ca in lists]


def next_number(register: AuthorityState, ca: Ca) -> int:
    """The number of the next list of a CA."""
    return register.numbers.get(ca.serial, 0) + 1
