"""Identity in a certificate: exactly one SPIFFE URI, `spiffe://<trust domain>/<role>/<name>`.

The common name carries the same name for software that maps it (PostgreSQL), and is never read here.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from cryptography import x509

from pki.errors import IdentityError
from pki.x509.parsing import UNREADABLE

__all__ = ["Identity", "IdentityError", "Role", "check_name", "check_trust_domain", "identity_of"]

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = re.compile(_LABEL)
_TRUST_DOMAIN = re.compile(rf"(?:{_LABEL}\.)*(?!\d+\Z){_LABEL}")  # a DNS name, not an IPv4 address
_TRUST_DOMAIN_LENGTH = 64  # characters; it is the organisation (O) of every subject, which X.520 limits to 64
_SCHEME = "spiffe://"


class Role(StrEnum):
    """Role of a certificate's holder, which determines its permissions."""

    COORDINATOR = "coordinator"
    WORKER = "worker"
    GATEWAY = "gateway"
    CLIENT = "client"
    ADMIN = "admin"
    PROMETHEUS = "prometheus"
    POSTGRES = "postgres"

    @property
    def with_article(self) -> str:
        """The role with its article: "a worker", "an admin"."""
        return f"{'an' if self.value[0] in 'aeiou' else 'a'} {self.value}"


@dataclass(frozen=True, slots=True)
class Identity:
    """Member of a network. Raises `IdentityError` when a part is malformed."""

    trust_domain: str
    role: Role
    name: str

    def __post_init__(self) -> None:
        check_trust_domain(self.trust_domain)
        check_name(self.name)

    @property
    def uri(self) -> str:
        """The identity as certificates carry it."""
        return f"{_SCHEME}{self.trust_domain}/{self.role}/{self.name}"

    @property
    def dns_name(self) -> str:
        """The DNS name that every certificate of this identity has: `<name>.<trust domain>`.

        It is valid whatever the identity: the name is one label, the trust domain a DNS name, and together they
        have at most 128 of the 253 characters that a DNS name may have.
        """
        return f"{self.name}.{self.trust_domain}"

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read `spiffe://<trust domain>/<role>/<name>`; raises `IdentityError`."""
        parts = uri.removeprefix(_SCHEME).split("/")
        if not uri.startswith(_SCHEME) or len(parts) != 3:
            raise IdentityError(f"{uri!r} is not spiffe://TRUST-DOMAIN/ROLE/NAME")
        trust_domain, role, name = parts
        try:
            return cls(trust_domain, Role(role), name)
        except ValueError:
            raise IdentityError(f"{uri!r}: unknown role {role!r}, known are {', '.join(Role)}") from None

    def __str__(self) -> str:
        return self.uri


def check_name(text: str) -> None:
    """Raise `IdentityError` unless `text` is a valid member name."""
    # One label, no dots: OpenSSL treats a dotted common name as a DNS name and checks it against the
    # issuer's name constraints.
    if not _NAME.fullmatch(text):
        raise IdentityError(
            f"name {text!r}: use 1 to 63 of a-z, 0-9 and '-', like coordinator-1 (hosts are given apart)"
        )


def check_trust_domain(text: str) -> None:
    """Raise `IdentityError` unless `text` is a valid trust domain."""
    if not _TRUST_DOMAIN.fullmatch(text) or len(text) > _TRUST_DOMAIN_LENGTH:
        raise IdentityError(
            f"trust domain {text!r}: write a lower-case DNS name of at most {_TRUST_DOMAIN_LENGTH} "
            "characters, like zkp.example"
        )


def identity_of(certificate: x509.Certificate) -> Identity:
    """Return the identity of a leaf certificate; raise `IdentityError` unless there is exactly one."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise IdentityError("certificate has no subject alternative name: issue it with `pki issue`") from None
    except UNREADABLE as error:  # malformed or duplicate extensions
        raise IdentityError(f"certificate cannot be read: {error}") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise IdentityError(
            f"certificate carries {len(uris)} URIs, not one SPIFFE identity: issue it with `pki issue`"
        )
    return Identity.parse(uris[0])
