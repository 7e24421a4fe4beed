"""Certificate revocation lists (CRLs), and the file with the CRLs of several CAs that verifiers load.

A file holds the CRL of every CA that a peer's chain may contain: the issuing CA in use, the next or previous one
during a rotation, and the root (PostgreSQL, HAProxy and curl require the root's CRL too). Serial numbers are
128 random bits, so that one set of numbers serves all CAs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from pki.errors import RevocationError
from pki.x509.parsing import read_lists


class Reason(StrEnum):
    """Reason for a revocation, named as in RFC 5280, section 5.3.1."""

    UNSPECIFIED = "unspecified"
    KEY_COMPROMISE = "key-compromise"
    AFFILIATION_CHANGED = "affiliation-changed"
    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessation-of-operation"
    PRIVILEGE_WITHDRAWN = "privilege-withdrawn"

    @property
    def flag(self) -> x509.ReasonFlags:
        """The reason as encoded in a CRL."""
        return x509.ReasonFlags[self.name.lower()]


@dataclass(frozen=True, slots=True)
class CrlEntry:
    """Revoked certificate: its serial number, the time (timezone-aware) and the reason."""

    serial: int
    at: datetime
    reason: Reason = Reason.UNSPECIFIED


@dataclass(frozen=True, slots=True)
class RevocationLists:
    """CRLs of one file."""

    lists: tuple[x509.CertificateRevocationList, ...]
    serials: frozenset[int]  # of every revoked certificate, whichever CA signed it

    @classmethod
    def read(cls, pem: bytes) -> Self:
        """Parse one or more PEM lists and nothing else; raises `RevocationError`."""
        try:
            lists = read_lists(pem)
        except ValueError as error:
            raise RevocationError(f"holds {error}: write it again with `pki bundle`") from None
        return cls(lists, frozenset(entry.serial_number for one in lists for entry in one))

    def of(self, ca: x509.Certificate) -> x509.CertificateRevocationList | None:
        """Return the newest CRL with `ca` as issuer, if any; raise `RevocationError` when `ca` did not sign it."""
        named = [one for one in self.lists if one.issuer == ca.subject]
        if not named:
            return None
        newest = max(named, key=lambda one: one.last_update_utc)
        if not signed_by(newest, ca):
            raise RevocationError(
                f"holds a list that {ca.subject.rfc4514_string()} did not sign: write it again with `pki bundle`"
            )
        return newest

    def check(self, issuers: Sequence[x509.Certificate], now: datetime) -> None:
        """Raise `RevocationError` unless the first of `issuers` has a list here and all of theirs are current."""
        found = [one for ca in issuers if (one := self.of(ca)) is not None]
        if not found or found[0].issuer != issuers[0].subject:
            raise RevocationError(
                f"holds no list of {issuers[0].subject.rfc4514_string()}: write it again with `pki bundle`"
            )
        for one in found:
            check_current(one, now)

    def next_updates(self, issuers: Iterable[x509.Certificate]) -> dict[int, datetime]:
        """Return the nextUpdate of each of these CAs' CRLs by the CA's serial number, omitting CAs without a CRL."""
        return {ca.serial_number: expiry(one) for ca in issuers if (one := self.of(ca)) is not None}


def signed_by(one: x509.CertificateRevocationList, ca: x509.Certificate) -> bool:
    """Return whether the key of `ca` signed the CRL."""
    try:
        return one.is_signature_valid(ca.public_key())  # type: ignore[arg-type]  # other kinds raise TypeError
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def expiry(one: x509.CertificateRevocationList) -> datetime:
    """Return the nextUpdate of a CRL; raise `RevocationError` when it has none."""
    if one.next_update_utc is None:
        raise RevocationError("holds a list without nextUpdate: write it again with `pki bundle`")
    return one.next_update_utc


def check_current(one: x509.CertificateRevocationList, now: datetime) -> None:
    """Raise `RevocationError` when `now` is outside the CRL's validity."""
    who, last = one.issuer.rfc4514_string(), expiry(one)
    if now < one.last_update_utc:
        raise RevocationError(
            f"holds a list of {who} that begins at {one.last_update_utc:%Y-%m-%d %H:%M} UTC: check this host's clock"
        )
    if now >= last:
        raise RevocationError(
            f"holds a list of {who} that expired at {last:%Y-%m-%d %H:%M} UTC: sign a new one with `pki crl`"
        )
