"""What each role's certificates are good for, as one table. Requests cannot ask for anything else."""

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
CRL_LIFE = timedelta(days=30)  # as long as a leaf: whoever fetches new certificates in time also has a list in time
ROOT_CRL_LIFE = ISSUER_LIFE + timedelta(days=90)  # a root signs when an issuing CA is made, and not between
BACKDATE = timedelta(minutes=5)  # hosts whose clock is a little behind accept a fresh certificate

_JITTER_STEPS = 1 << 16
_SERVES = ExtendedKeyUsageOID.SERVER_AUTH
_DIALS = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True)
class CertificateProfile:
    """The part of a certificate that its role decides."""

    usages: tuple[ObjectIdentifier, ...]
    needs_host: bool  # dialled by others, who verify the address they dialled
    life: timedelta = LEAF_LIFE


PROFILES: Mapping[Role, CertificateProfile] = MappingProxyType(
    {
        Role.COORDINATOR: CertificateProfile((_SERVES, _DIALS), needs_host=True),
        Role.WORKER: CertificateProfile((_SERVES, _DIALS), needs_host=False),  # serves health and metrics only
        Role.GATEWAY: CertificateProfile((_SERVES, _DIALS), needs_host=True),
        Role.CLIENT: CertificateProfile((_DIALS,), needs_host=False),
        Role.ADMIN: CertificateProfile((_DIALS,), needs_host=False),
        Role.PROMETHEUS: CertificateProfile(
            (_SERVES, _DIALS), needs_host=False
        ),  # scrapes, and may serve its own page
        Role.POSTGRES: CertificateProfile((_SERVES,), needs_host=True),
    }
)


def renewal_at(certificate: x509.Certificate) -> datetime:
    """When to renew: at two thirds of its life, or up to a fifteenth sooner, so that not all come at once.

    The jitter comes from the serial number: everybody who asks gets the same answer.
    """
    life = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    jitter = certificate.serial_number % _JITTER_STEPS / _JITTER_STEPS / 15
    return certificate.not_valid_before_utc + life * (2 / 3 - jitter)
