"""Signing of certificates and CRLs; no other module signs.

There is no I/O. Serial numbers come from the operating system's random source, the time from the caller.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pki.ca.profiles import BACKDATE
from pki.errors import AuthorityError
from pki.x509.crl import CrlEntry, Reason

CA_USAGE = ("key_cert_sign", "crl_sign")
LEAF_USAGE = ("digital_signature",)
_SERIAL_BITS = 128


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """CA certificate with its private key, which is excluded from the repr."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Validity:
    """Validity period, in whole seconds of UTC."""

    start: datetime
    end: datetime

    @classmethod
    def within(cls, issuer: x509.Certificate | None, now: datetime, life: timedelta) -> Self:
        """Return a period of `life` from `now`, backdated by `BACKDATE` and limited to the issuer's validity."""
        instant = now.replace(microsecond=0)
        if issuer is None:
            return cls(instant - BACKDATE, instant + life)
        check_can_sign(issuer, now)
        first, last = issuer.not_valid_before_utc, issuer.not_valid_after_utc
        return cls(max(instant - BACKDATE, first), min(instant + life, last))


def check_can_sign(ca: x509.Certificate, now: datetime) -> None:
    """Raise `AuthorityError` unless a CA is valid at `now`."""
    first, last = ca.not_valid_before_utc, ca.not_valid_after_utc
    if not first <= now < last:
        raise AuthorityError(
            f"{ca.subject.rfc4514_string()} is valid from {first:%Y-%m-%d %H:%M} to "
            f"{last:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}: check the clock, "
            "or renew it with `pki rotate-issuer` or `pki rotate-root`"
        )


def sign_certificate(
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    *,
    subject: x509.Name,
    validity: Validity,
    constraints: x509.BasicConstraints,
    usage: tuple[str, ...],
    extensions: Sequence[x509.ExtensionType] = (),
    critical: Sequence[x509.ExtensionType] = (),
) -> x509.Certificate:
    """Sign a certificate, self-signed if `issuer` is None.

    It has both key identifiers, which strict verifiers require (RFC 5280, sections 4.2.1.1 and 4.2.1.2).
    """
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.subject)
        .public_key(key)
        .serial_number(secrets.randbits(_SERIAL_BITS) or 1)
        .not_valid_before(validity.start)
        .not_valid_after(validity.end)
        .add_extension(constraints, critical=True)
        .add_extension(_key_usage(usage), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    for extension in critical:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(issuer_key, hashes.SHA384())


def sign_crl(
    ca: CertifiedKey, revocations: Iterable[CrlEntry], *, number: int, now: datetime, life: timedelta
) -> x509.CertificateRevocationList:
    """Sign a CRL of `ca`; `number` must increase from each of its CRLs to the next."""
    validity = Validity.within(ca.certificate, now, life)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.certificate.subject)
        .last_update(validity.start)
        .next_update(validity.end)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key()), critical=False)
    )
    for revocation in revocations:
        builder = builder.add_revoked_certificate(_entry(revocation))
    return builder.sign(ca.key, hashes.SHA384())


def pem_of(*signed: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    """Return certificates or CRLs as concatenated PEM."""
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in signed)


def _entry(revocation: CrlEntry) -> x509.RevokedCertificate:
    builder = x509.RevokedCertificateBuilder().serial_number(revocation.serial).revocation_date(revocation.at)
    if revocation.reason is not Reason.UNSPECIFIED:  # RFC 5280, section 5.3.1: omit it
        builder = builder.add_extension(x509.CRLReason(revocation.reason.flag), critical=False)
    return builder.build()


def _key_usage(allowed: tuple[str, ...]) -> x509.KeyUsage:
    bits = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{bit: bit in allowed for bit in bits})
