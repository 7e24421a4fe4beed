"""Certificate profile of each role: usages and validity. Requests cannot change them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from pki.x509.identity import Role

ROOT_LIFE = timedelta(days=3652)  # 10 years
ISSUER_LIFE = timedelta(days=365)
LEAF_LIFE = timedelta(days=30)
CRL_LIFE = timedelta(days=30)  # as long as a leaf: a timely renewal also brings a current CRL
ROOT_CRL_LIFE = ISSUER_LIFE + timedelta(days=90)  # a root signs only when an issuing CA is created or retired
BACKDATE = timedelta(minutes=5)  # hosts whose clock is a little behind accept a fresh certificate

_JITTER_STEPS = 1 << 16
_SERVER_AUTH = ExtendedKeyUsageOID.SERVER_AUTH
_CLIENT_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True)
class CertificateProfile:
    """Properties of a certificate that its role determines."""

    usages: tuple[ObjectIdentifier, ...]
    needs_host: bool  # peers dial it and verify the address
    life: timedelta = LEAF_LIFE


PROFILES: Mapping[Role, CertificateProfile] = MappingProxyType(
    {
        Role.COORDINATOR: CertificateProfile((_SERVER_AUTH, _CLIENT_AUTH), needs_host=True),
        Role.WORKER: CertificateProfile(
            (_SERVER_AUTH, _CLIENT_AUTH), needs_host=False
        ),  # serves health and metrics only
        Role.GATEWAY: CertificateProfile((_SERVER_AUTH, _CLIENT_AUTH), needs_host=True),
        Role.CLIENT: CertificateProfile((_CLIENT_AUTH,), needs_host=False),
        Role.ADMIN: CertificateProfile((_CLIENT_AUTH,), needs_host=False),
        Role.PROMETHEUS: CertificateProfile(
            (_SERVER_AUTH, _CLIENT_AUTH), needs_host=False
        ),  # scrapes, and may serve its own page
        Role.POSTGRES: CertificateProfile((_SERVER_AUTH,), needs_host=True),
    }
)


def renewal_at(certificate: x509.Certificate) -> datetime:
    """Return the time from which a certificate is due for renewal.

    That is after two thirds of its validity period, less a jitter of up to a fifteenth of the period, which spreads
    the renewals. The jitter is derived from the serial number, so that every caller gets the same time.
    """
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    jitter = certificate.serial_number % _JITTER_STEPS / _JITTER_STEPS / 15
    return certificate.not_valid_before_utc + life * (2 / 3 - jitter)
