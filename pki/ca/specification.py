"""Specification of a certificate to issue."""

from dataclasses import dataclass
from datetime import timedelta

from pki.x509.identity import Role


@dataclass(frozen=True, slots=True)
class CertificateSpec:
    """Name, role, hosts and validity of one certificate to issue."""

    name: str
    role: Role
    hosts: tuple[str, ...] = ()
    life: timedelta | None = None  # None: the default of the role
