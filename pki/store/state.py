"""State of an authority, replayed from the ledger: trusted CAs, the signing CA, certificates, revocations.

There is no I/O, and no other state is stored, so that a crash cannot leave two that differ.

An issuing CA is first `next` (created, and distributed before it signs), then `signing`, then `old` (its leaves are
still accepted), then `retired`. A root is trusted from its creation until it is retired.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki.ca.profiles import renewal_at
from pki.errors import StoreError
from pki.store.ledger import LedgerEvent, LedgerRecord
from pki.x509.compatibility import lacks_dns_name
from pki.x509.crl import CrlEntry, Reason
from pki.x509.identity import Identity, Role
from pki.x509.serials import format_serial

_LISTED_AFTER_EXPIRY = timedelta(days=1)  # for verifiers whose clock is behind
_LEAF_EVENTS = frozenset({LedgerEvent.ISSUED, LedgerEvent.SIGNED, LedgerEvent.RENEWED})


class CertificateStatus(StrEnum):
    """Status of a leaf."""

    VALID = "valid"
    SUPERSEDED = "superseded"  # still valid, and a newer one of that name exists
    NOT_YET_VALID = "not yet valid"  # signed while the authority's clock was ahead
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class Ca:
    """Root or issuing CA. `stem` is the stem of its file names: root, root-2, issuer, issuer-2 and so on."""

    certificate: x509.Certificate
    stem: str

    @property
    def serial(self) -> int:
        """Its serial number."""
        return self.certificate.serial_number

    @property
    def is_root(self) -> bool:
        """Whether it is a root rather than an issuing CA."""
        return _is_root(self.certificate)

    def signed(self, certificate: x509.Certificate) -> bool:
        """Return whether this CA issued a certificate of this authority. Subjects of CAs are random and unique."""
        return certificate.issuer == self.certificate.subject


@dataclass(frozen=True, slots=True)
class LeafEntry:
    """Certificate of a member, with its ledger record."""

    record: LedgerRecord
    identity: Identity
    key_elsewhere: bool  # made on a host, so that only the host can replace it

    @property
    def certificate(self) -> x509.Certificate:
        """The certificate itself."""
        return self.record.certificate

    @property
    def serial(self) -> int:
        """Its serial number."""
        return self.record.certificate.serial_number


@dataclass(frozen=True, slots=True)
class AuthorityState:
    """State of the authority. Tuples are oldest first."""

    roots: tuple[Ca, ...]  # trusted
    signing: Ca
    next: Ca | None
    old: tuple[Ca, ...]
    retired: tuple[Ca, ...]  # roots and issuing CAs
    leaves: tuple[LeafEntry, ...]
    newest: Mapping[str, LeafEntry]  # each name's last certificate, whatever its status
    revocations: Mapping[int, CrlEntry]  # of leaves and issuing CAs, by serial number
    numbers: Mapping[int, int]  # of the last list that each CA signed, by the CA's serial number

    @classmethod
    def read(cls, records: Iterable[LedgerRecord]) -> Self:
        """Replay the ledger; raise `StoreError` if it is inconsistent."""
        replay = _Replay()
        for record in records:
            replay.apply(record)
        issuers = [ca for ca in replay.cas.values() if not ca.is_root]
        signing = replay.cas.get(replay.signing or 0)
        if signing is None:
            raise StoreError("ledger names no issuing CA: restore an intact copy")
        at = issuers.index(signing)
        later = [ca for ca in issuers[at + 1 :] if ca not in replay.retired]
        return cls(
            roots=tuple(ca for ca in replay.cas.values() if ca.is_root and ca not in replay.retired),
            signing=signing,
            next=later[-1] if later else None,
            old=tuple(ca for ca in issuers[:at] if ca not in replay.retired),
            retired=tuple(replay.retired),
            leaves=tuple(replay.leaves),
            newest={leaf.identity.name: leaf for leaf in replay.leaves},
            revocations=replay.revocations,
            numbers=replay.numbers,
        )

    @property
    def issuers(self) -> tuple[Ca, ...]:
        """Issuing CAs whose leaves are or will be accepted, the signing one first."""
        return (self.signing, *self.old, *(() if self.next is None else (self.next,)))

    def root_of(self, issuer: Ca) -> Ca | None:
        """Return the trusted root that certified an issuing CA."""
        return next((root for root in self.roots if root.signed(issuer.certificate)), None)

    def status_of(self, leaf: LeafEntry, now: datetime) -> CertificateStatus:
        """Return the status of a leaf at `now`."""
        if leaf.serial in self.revocations:
            return CertificateStatus.REVOKED
        if now >= leaf.certificate.not_valid_after_utc:
            return CertificateStatus.EXPIRED
        if now < leaf.certificate.not_valid_before_utc:
            return CertificateStatus.NOT_YET_VALID
        return CertificateStatus.VALID if self.newest[leaf.identity.name] is leaf else CertificateStatus.SUPERSEDED

    def members(self) -> tuple[LeafEntry, ...]:
        """Return the members: each name's last certificate unless it is revoked, including expired ones."""
        return tuple(leaf for leaf in self.newest.values() if leaf.serial not in self.revocations)

    def is_due(self, leaf: LeafEntry, now: datetime) -> bool:
        """Return whether a member's last certificate is due for renewal at `now`.

        That is so after `renewal_at`, when it is not valid yet, when its issuing CA no longer signs, or when it
        lacks the DNS name of its identity.
        """
        certificate = leaf.certificate
        in_time = certificate.not_valid_before_utc <= now < renewal_at(certificate)
        return not in_time or not self.signing.signed(certificate) or lacks_dns_name(certificate)

    def superseded(self, now: datetime) -> tuple[LeafEntry, ...]:
        """Return the leaves that are still accepted although their name has a newer one."""
        return tuple(
            leaf
            for leaf in self.leaves
            if self.newest[leaf.identity.name] is not leaf
            and leaf.serial not in self.revocations
            and now < leaf.certificate.not_valid_after_utc
        )

    def role_of(self, name: str) -> Role | None:
        """Return the role of a name, if it has certificates."""
        leaf = self.newest.get(name)
        return None if leaf is None else leaf.identity.role

    def revoked_by(self, ca: Ca, now: datetime) -> Iterator[CrlEntry]:
        """Yield the entries of a CA's CRL at `now`: its revoked certificates, until a day after they expire."""
        certificates = (*(leaf.certificate for leaf in self.leaves), *(one.certificate for one in self.retired))
        for certificate in certificates:
            revocation = self.revocations.get(certificate.serial_number)
            listed = now < certificate.not_valid_after_utc + _LISTED_AFTER_EXPIRY
            if revocation is not None and listed and ca.signed(certificate):
                yield revocation

    def next_stem(self, kind: str) -> str:
        """Return the file name stem for the next root or issuing CA."""
        known = (*self.roots, *self.issuers, *self.retired)
        return _stem(kind, sum(1 for ca in known if ca.is_root is (kind == "root")))


class _Replay:
    """Replay of the ledger, record by record."""

    def __init__(self) -> None:
        self.cas: dict[int, Ca] = {}
        self.signing: int | None = None
        self.retired: list[Ca] = []
        self.leaves: list[LeafEntry] = []
        self.revocations: dict[int, CrlEntry] = {}
        self.numbers: dict[int, int] = {}
        self._keys_elsewhere: set[bytes] = set()

    def apply(self, record: LedgerRecord) -> None:
        serial = record.certificate.serial_number
        if record.event in _LEAF_EVENTS:
            self._certified(record)
        elif record.event is LedgerEvent.CREATED:
            self._created(record.certificate)
        elif record.event is LedgerEvent.REVOKED:
            self.revocations[serial] = CrlEntry(serial, record.at, record.reason or Reason.UNSPECIFIED)
        elif serial not in self.cas:
            raise StoreError(
                f"ledger has a line about an unknown CA {format_serial(serial)} in it: restore an intact copy"
            )
        elif record.event is LedgerEvent.CRL:
            self.numbers[serial] = max(record.number or 0, self.numbers.get(serial, 0))
        elif record.event is LedgerEvent.SWITCHED:
            self.signing = serial
        else:
            self.retired.append(self.cas[serial])
            self.revocations[serial] = CrlEntry(serial, record.at, Reason.SUPERSEDED)

    def _created(self, certificate: x509.Certificate) -> None:
        kind = "root" if _is_root(certificate) else "issuer"
        count = sum(1 for ca in self.cas.values() if ca.is_root is (kind == "root"))
        self.cas[certificate.serial_number] = Ca(certificate, _stem(kind, count))
        if kind == "issuer" and self.signing is None:
            self.signing = certificate.serial_number

    def _certified(self, record: LedgerRecord) -> None:
        identity = record.identity
        if identity is None:
            raise StoreError(f"ledger has a leaf {record.serial} without a name: restore an intact copy")
        elsewhere = record.event is LedgerEvent.SIGNED
        if elsewhere:
            self._keys_elsewhere.add(_key_of(record.certificate))
        elif record.event is LedgerEvent.RENEWED and self._keys_elsewhere:
            elsewhere = _key_of(record.certificate) in self._keys_elsewhere
        self.leaves.append(LeafEntry(record, identity, elsewhere))


def _stem(kind: str, count: int) -> str:
    return kind if count == 0 else f"{kind}-{count + 1}"


def _is_root(certificate: x509.Certificate) -> bool:
    return certificate.issuer == certificate.subject


def _key_of(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
