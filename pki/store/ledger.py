"""Ledger of an authority's operations: JSON lines, each with the SHA-256 of the previous line.

A certificate is recorded before it leaves the authority, and the ledger is the only state (`state.py` replays it).
Lines are only appended; a change or a gap shows as a hash that does not match. There is no I/O.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki.errors import IdentityError, StoreError
from pki.x509.crl import Reason
from pki.x509.identity import Identity, identity_of
from pki.x509.parsing import UNREADABLE
from pki.x509.serials import format_serial

_GENESIS = "0" * 64
_SUMMARY_LIMIT = 3


class LedgerEvent(StrEnum):
    """Kind of a ledger record."""

    CREATED = "created"  # a root or an issuing CA
    ISSUED = "issued"  # a leaf, with the key made here
    SIGNED = "signed"  # a leaf for a request, the key made elsewhere
    RENEWED = "renewed"  # a leaf that replaces an earlier one of that name
    REVOKED = "revoked"  # a leaf
    CRL = "crl"  # a revocation list, by the CA of the line
    SWITCHED = "switched"  # the issuing CA of the line signs leaves from now on
    RETIRED = "retired"  # the CA of the line is no longer trusted


@dataclass(frozen=True, slots=True)
class LedgerRecord:
    """One line of the ledger: the event, its time, the operator and the certificate."""

    event: LedgerEvent
    at: datetime
    by: str
    certificate: x509.Certificate
    reason: Reason | None = None  # of a revocation
    number: int | None = None  # of a revocation list

    @property
    def identity(self) -> Identity | None:
        """Identity of the certificate; None for a CA."""
        try:
            return identity_of(self.certificate)
        except IdentityError:
            return None

    @property
    def serial(self) -> str:
        """Serial number in lower-case hexadecimal, in whole octets."""
        return format_serial(self.certificate.serial_number)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Addresses and DNS names of the certificate."""
        try:
            names = self.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return ()
        return tuple(str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress))

    def to_json(self) -> dict[str, object]:
        """Return the fields of the line; those derived from the certificate are for readers of the file."""
        identity = self.identity
        details = {"reason": self.reason, "number": self.number}
        return {
            "event": self.event,
            "at": self.at.isoformat(timespec="seconds"),
            "by": self.by,
            **{key: value for key, value in details.items() if value is not None},
            "serial": self.serial,
            "name": identity.name if identity else None,
            "role": identity.role if identity else None,
            "subject": self.certificate.subject.rfc4514_string(),
            "hosts": list(self.hosts),
            "not_before": self.certificate.not_valid_before_utc.isoformat(),
            "not_after": self.certificate.not_valid_after_utc.isoformat(),
            "certificate": self.certificate.public_bytes(serialization.Encoding.PEM).decode("ascii"),
        }


@dataclass(frozen=True, slots=True)
class Ledger:
    """All records, and the offset of the next line."""

    records: tuple[LedgerRecord, ...] = ()
    size: int = 0  # bytes of complete lines; a truncated line after them is overwritten
    head: str = _GENESIS  # SHA-256 of the last line
    heads: frozenset[str] = frozenset()  # SHA-256 of every line
    torn: int = 0  # bytes of truncated last line

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Parse the lines and verify the hash chain; raise `StoreError` with the number of a bad line.

        A truncated last line comes from a crash and is ignored: its certificate never left the authority, because an
        append returns only when the whole line is on disk.
        """
        records: list[LedgerRecord] = []
        head, size = _GENESIS, 0
        heads: list[str] = []
        *lines, torn = data.split(b"\n")
        for number, line in enumerate(lines, start=1):
            try:
                records.append(_parse(json.loads(line), head))
            except (KeyError, AttributeError, *UNREADABLE) as error:
                raise StoreError(
                    f"ledger, line {number}: damaged or altered ({error}): restore an intact copy"
                ) from None
            head = hashlib.sha256(line).hexdigest()
            heads.append(head)
            size += len(line) + 1
        return cls(tuple(records), size, head, frozenset(heads), len(torn))

    def lines(self, records: Iterable[LedgerRecord]) -> bytes:
        """Return the bytes to write at `size` to add `records`."""
        return self.extended(list(records))[0]

    def extended(self, records: Sequence[LedgerRecord]) -> tuple[bytes, Self]:
        """Return the bytes to write at `size` to add `records`, and the resulting ledger."""
        lines: list[bytes] = []
        heads: list[str] = [self.head]
        for record in records:
            line = json.dumps({**record.to_json(), "previous": heads[-1]}, separators=(",", ":")).encode()
            heads.append(hashlib.sha256(line).hexdigest())
            lines.append(line + b"\n")
        text = b"".join(lines)
        after = replace(
            self,
            records=(*self.records, *records),
            size=self.size + len(text),
            head=heads[-1],
            heads=self.heads.union(heads[1:]),
            torn=0,
        )
        return text, after


def summary(records: Iterable[LedgerRecord]) -> str:
    """Summarize records for an error message: "revoked worker-1, revoked worker-2, …"."""
    told = [f"{record.event} {record.identity.name}" for record in records if record.identity is not None]
    told = told or [f"{record.event} of {record.certificate.subject.rfc4514_string()}" for record in records]
    shown, more = told[:_SUMMARY_LIMIT], len(told) - _SUMMARY_LIMIT
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _parse(fields: dict[str, Any], previous: str) -> LedgerRecord:
    if fields["previous"] != previous:
        raise ValueError("it does not follow the line before")
    return LedgerRecord(
        LedgerEvent(fields["event"]),
        datetime.fromisoformat(fields["at"]),
        fields["by"],
        x509.load_pem_x509_certificate(fields["certificate"].encode("ascii")),
        Reason(fields["reason"]) if "reason" in fields else None,
        int(fields["number"]) if "number" in fields else None,
    )
