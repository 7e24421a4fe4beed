"""Certificate authority in memory: a root, an issuing CA under it, and the leaves that it certifies.

There is no file access and no clock: callers pass the time. Only keys and serial numbers, which come from the
operating system's random source, differ between two runs. `signing.py` signs, and every leaf goes through
`Authority.certify`.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import NameOID

from pki.ca.issued import IssuedCertificate, IssuedIdentity
from pki.ca.profiles import CRL_LIFE, ISSUER_LIFE, LEAF_LIFE, PROFILES, ROOT_LIFE
from pki.ca.signing import CA_USAGE, LEAF_USAGE, CertifiedKey, Validity, pem_of, sign_certificate, sign_crl
from pki.errors import AuthorityError
from pki.x509.crl import CrlEntry
from pki.x509.identity import Identity, Role, check_trust_domain, identity_of
from pki.x509.keys import check_leaf_key, make_ca_key, make_leaf_key
from pki.x509.name_constraints import NameConstraints, Network, parse_host, trust_domain_of

__all__ = ["Authority", "AuthorityError", "CertifiedKey", "create_issuer", "create_root"]


@dataclass(frozen=True, slots=True)
class Authority:
    """Issuing CA with its key, and the roots that certificate holders must trust.

    `roots` holds two roots during a rotation of the root. `root` is set only after `create`, and when its key was
    loaded to certify another issuing CA; other operations do not need it.
    """

    issuer: CertifiedKey
    roots: tuple[x509.Certificate, ...]
    scope: NameConstraints
    root: CertifiedKey | None = None
    crls: tuple[x509.CertificateRevocationList, ...] = ()  # given to every holder; none before the first was signed

    @classmethod
    def create(
        cls,
        trust_domain: str,
        *,
        now: datetime,
        domains: Iterable[str] = (),
        networks: Iterable[Network] = (),
    ) -> Self:
        """Create a root and an issuing CA for `trust_domain`; `now` must be timezone-aware.

        Hosts may be in the trust domain, `localhost`, `domains`, loopback and `networks`.
        """
        check_trust_domain(trust_domain)
        scope = NameConstraints.of(trust_domain, domains, networks)
        root = create_root(trust_domain, now=now)
        return cls(create_issuer(root, scope, now=now), (root.certificate,), scope, root)

    def issue(
        self,
        name: str,
        role: Role,
        hosts: Sequence[str] = (),
        *,
        now: datetime,
        life: timedelta | None = None,
    ) -> IssuedIdentity:
        """Create a key and its certificate; raise `AuthorityError` or `IdentityError` for invalid names or hosts."""
        key = make_leaf_key()
        leaf = self.certify(key.public_key(), name, role, hosts, now=now, life=life)
        return self.deliver(leaf).with_key(key)

    def deliver(self, leaf: x509.Certificate) -> IssuedCertificate:
        """Return a leaf with its chain, the trusted roots and the CRLs."""
        return IssuedCertificate(
            identity=identity_of(leaf),
            certificate=leaf,
            certificate_pem=pem_of(leaf, self.issuer.certificate),
            ca_pem=pem_of(*self.roots),
            crl_pem=pem_of(*self.crls) if self.crls else None,
        )

    def certify(
        self,
        key: PublicKeyTypes,
        name: str,
        role: Role,
        hosts: Sequence[str] = (),
        *,
        now: datetime,
        life: timedelta | None = None,
    ) -> x509.Certificate:
        """Sign a leaf for a public key; the role's profile sets everything except names and validity.

        Besides `hosts`, every leaf has the DNS name of its identity: without any DNS name, GnuTLS and Java treat the
        common name as one and find it outside the issuing CA's name constraints.
        """
        identity = Identity(self.scope.trust_domain, role, name)
        profile = PROFILES[role]
        public_key = check_leaf_key(key)
        if identity.trust_domain != trust_domain_of(self.issuer.certificate):
            issuer = self.issuer.certificate.subject.rfc4514_string()
            raise AuthorityError(f"{issuer} is not of the trust domain {identity.trust_domain}: use its own CA")
        if profile.needs_host and not hosts:
            raise AuthorityError(
                f"{name} is {role.with_article}, which accepts connections: give at least one --host"
            )
        names = list(dict.fromkeys(parse_host(host) for host in (*hosts, identity.dns_name)))
        for host in names:
            self.scope.check(host)
        lifetime = profile.life if life is None else life
        if not timedelta() < lifetime <= LEAF_LIFE:
            raise AuthorityError(f"the validity of a leaf is positive and at most {LEAF_LIFE.days} days")
        return sign_certificate(
            self.issuer.certificate,
            self.issuer.key,
            public_key,
            subject=_subject(name, self.scope.trust_domain, unit=role),
            validity=Validity.within(self.issuer.certificate, now, lifetime),
            constraints=x509.BasicConstraints(ca=False, path_length=None),
            usage=LEAF_USAGE,
            extensions=[
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.uri), *names]),
                x509.ExtendedKeyUsage(profile.usages),
            ],
        )

    def crl(
        self, revocations: Iterable[CrlEntry], *, number: int, now: datetime, life: timedelta = CRL_LIFE
    ) -> x509.CertificateRevocationList:
        """Sign the issuing CA's CRL; `number` must increase with each."""
        return sign_crl(self.issuer, revocations, number=number, now=now, life=life)


def create_root(trust_domain: str, *, now: datetime) -> CertifiedKey:
    """Create a self-signed P-384 root, valid for `ROOT_LIFE`."""
    key = make_ca_key()
    certificate = sign_certificate(
        None,
        key,
        key.public_key(),
        subject=_subject(f"root CA {secrets.token_hex(4)}", trust_domain),
        validity=Validity.within(None, now, ROOT_LIFE),
        constraints=x509.BasicConstraints(ca=True, path_length=1),
        usage=CA_USAGE,
    )
    return CertifiedKey(certificate, key)


def create_issuer(root: CertifiedKey, scope: NameConstraints, *, now: datetime) -> CertifiedKey:
    """Create a P-384 issuing CA, valid for `ISSUER_LIFE`, for leaves within `scope` (path length 0)."""
    key = make_ca_key()
    certificate = sign_certificate(
        root.certificate,
        root.key,
        key.public_key(),
        subject=_subject(f"issuing CA {secrets.token_hex(4)}", scope.trust_domain),
        validity=Validity.within(root.certificate, now, ISSUER_LIFE),
        constraints=x509.BasicConstraints(ca=True, path_length=0),
        usage=CA_USAGE,
        critical=[scope.constraints()],
    )
    return CertifiedKey(certificate, key)


def _subject(name: str, trust_domain: str, unit: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain)]
    if unit is not None:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name)])
