"""What is asked of an authority."""

from dataclasses import dataclass
from datetime import timedelta

from pki.x509.identity import Role


@dataclass(frozen=True, slots=True)
class CertificateSpec:
    """One certificate that is wanted."""

    name: str
    role: Role
    hosts: tuple[str, ...] = ()
    life: timedelta | None = None  # the role's own when None
