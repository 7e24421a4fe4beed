"""What each role's certificates are good for, as one table. Requests cannot ask for anything else."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType

from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from pki.identity import Role

ROOT_LIFE = timedelta(days=3652)  # 10 years
ISSUER_LIFE = timedelta(days=365)
LEAF_LIFE = timedelta(days=30)
BACKDATE = timedelta(minutes=5)  # hosts whose clock is a little behind accept a fresh certificate

_SERVES = ExtendedKeyUsageOID.SERVER_AUTH
_DIALS = ExtendedKeyUsageOID.CLIENT_AUTH


@dataclass(frozen=True, slots=True)
class Profile:
    """The part of a certificate that its role decides."""

    usages: tuple[ObjectIdentifier, ...]
    needs_host: bool  # dialled by others, who verify the address they dialled
    life: timedelta = LEAF_LIFE


PROFILES: Mapping[Role, Profile] = MappingProxyType(
    {
        Role.COORDINATOR: Profile((_SERVES, _DIALS), needs_host=True),
        Role.WORKER: Profile((_SERVES, _DIALS), needs_host=False),  # serves health and metrics only
        Role.GATEWAY: Profile((_SERVES, _DIALS), needs_host=True),
        Role.CLIENT: Profile((_DIALS,), needs_host=False),
        Role.ADMIN: Profile((_DIALS,), needs_host=False),
        Role.PROMETHEUS: Profile((_SERVES, _DIALS), needs_host=False),  # scrapes, and may serve its own page
        Role.POSTGRES: Profile((_SERVES,), needs_host=True),
    }
)
