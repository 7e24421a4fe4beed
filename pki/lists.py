"""The revocation lists of an authority: which it gives to everybody, which are due, and signing them.

Whatever is handed out carries lists that are at most a day old and name everything that was revoked. A leaf lives
as long as a list does: who is renewed in time has a good list, too. (An authority made before there were lists has
none until the first `pki crl`.)
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from cryptography import x509

from pki.directory import AuthorityDirectory
from pki.ledger import Event, Record
from pki.profiles import CRL_LIFE
from pki.register import Ca, Register
from pki.revocation import expiry
from pki.signing import sign_crl

_AGE = timedelta(days=1)

Lists = dict[Ca, x509.CertificateRevocationList]


def in_use(directory: AuthorityDirectory, register: Register) -> Lists:
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


def due(directory: AuthorityDirectory, register: Register, now: datetime) -> list[Ca]:
    """The issuing CAs whose list has to be signed before anything is handed out."""
    if register.signing.serial not in register.numbers:
        return []
    late = []
    for ca in register.issuers:
        one = directory.revocation_list(ca)
        if one is None or one.last_update_utc + _AGE < now or not is_complete(register, ca, one, now):
            late.append(ca)
    return late


def is_complete(register: Register, ca: Ca, one: x509.CertificateRevocationList, now: datetime) -> bool:
    """Whether a CA's list is its last one, and names all that the ledger takes back."""
    number = one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    if number < register.numbers.get(ca.serial, 0):
        return False
    named = {entry.serial_number for entry in one}
    return all(revocation.serial in named for revocation in register.revoked_by(ca, now))


def sign(
    directory: AuthorityDirectory, register: Register, cas: Iterable[Ca], now: datetime, life: timedelta = CRL_LIFE
) -> Lists:
    """New lists of issuing CAs, complete by `register`; CAs whose life is over sign no more."""
    return {
        ca: sign_crl(
            directory.issuer_key(ca),
            register.revoked_by(ca, now),
            number=next_number(register, ca),
            now=now,
            life=life,
        )
        for ca in cas
        if now < ca.certificate.not_valid_after_utc
    }


def records(register: Register, lists: Lists, now: datetime, by: str) -> list[Record]:
    """The lines that tell of new lists; `register` is as it was before them."""
    return [Record(Event.CRL, now, by, ca.certificate, number=next_number(register, ca)) for ca in lists]


def next_number(register: Register, ca: Ca) -> int:
    """The number of the next list of a CA."""
    return register.numbers.get(ca.serial, 0) + 1
