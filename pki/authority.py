"""The authority: a root, an issuing CA under it, and the leaves it certifies. Pure: no file, no clock.

Whoever asks says what time it is. Keys and serial numbers come from the operating system's random source,
which is the one thing here that differs between two runs. Everything that is signed passes through `_sign`,
and every leaf through `Authority.certify`, whoever made its key.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pki.errors import AuthorityError
from pki.identity import Identity, Role, check_trust_domain
from pki.issued import Issued
from pki.profiles import BACKDATE, ISSUER_LIFE, LEAF_LIFE, PROFILES, ROOT_LIFE
from pki.scope import Network, Scope, parse_host

__all__ = ["Authority", "AuthorityError", "CertifiedKey", "create_issuer", "create_root"]

_SERIAL_BITS = 128
_CA_USAGE = ("key_cert_sign", "crl_sign")
_LEAF_USAGE = ("digital_signature",)


@dataclass(frozen=True, slots=True)
class CertifiedKey:
    """A CA certificate with its private key, which no repr shows."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Validity:
    start: datetime
    end: datetime

    @classmethod
    def within(cls, issuer: x509.Certificate | None, now: datetime, life: timedelta) -> Self:
        """`life` from `now`, a little backdated, and nowhere outside the issuer's own validity."""
        instant = now.replace(microsecond=0)
        if issuer is None:
            return cls(instant - BACKDATE, instant + life)
        first, last = issuer.not_valid_before_utc, issuer.not_valid_after_utc
        if not first <= now < last:
            raise AuthorityError(
                f"{issuer.subject.rfc4514_string()} is valid from {first:%Y-%m-%d %H:%M} to "
                f"{last:%Y-%m-%d %H:%M} UTC, and it is {now:%Y-%m-%d %H:%M}: check the clock, "
                "or make a new authority with `pki init`"
            )
        return cls(max(instant - BACKDATE, first), min(instant + life, last))


@dataclass(frozen=True, slots=True)
class Authority:
    """An issuing CA that can sign, with the roots its holders are told to trust.

    `roots` is a bundle, so that two can be trusted during a change of root. `root` is present right after
    `create` and whenever its key was read back to certify another issuing CA; daily work needs it nowhere.
    """

    issuer: CertifiedKey
    roots: tuple[x509.Certificate, ...]
    scope: Scope
    root: CertifiedKey | None = None

    @classmethod
    def create(
        cls,
        trust_domain: str,
        *,
        now: datetime,
        domains: Iterable[str] = (),
        networks: Iterable[Network] = (),
    ) -> Self:
        """A new root and issuing CA for `trust_domain`; `now` has a time zone.

        Hosts may lie under the trust domain, `localhost`, `domains`, loopback and `networks`.
        """
        check_trust_domain(trust_domain)
        scope = Scope.of(trust_domain, domains, networks)
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
    ) -> Issued:
        """A new key and its certificate; raises `AuthorityError` or `IdentityError`, naming what is wrong."""
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self.certify(key.public_key(), name, role, hosts, now=now, life=life)
        return Issued(
            identity=Identity(self.scope.trust_domain, role, name),
            certificate=leaf,
            certificate_pem=_pem(leaf, self.issuer.certificate),
            key_pem=key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
            ca_pem=_pem(*self.roots),
        )

    def certify(
        self,
        key: ec.EllipticCurvePublicKey,
        name: str,
        role: Role,
        hosts: Sequence[str] = (),
        *,
        now: datetime,
        life: timedelta | None = None,
    ) -> x509.Certificate:
        """Sign a leaf for a key that somebody holds. The role's profile decides all but names and life."""
        identity = Identity(self.scope.trust_domain, role, name)
        profile = PROFILES[role]
        names = list(dict.fromkeys(parse_host(host) for host in hosts))
        for host in names:
            self.scope.check(host)
        if profile.needs_host and not names:
            raise AuthorityError(f"{name} is a {role}, which others dial: give at least one --host")
        lifetime = profile.life if life is None else life
        if not timedelta() < lifetime <= LEAF_LIFE:
            raise AuthorityError(f"a leaf lives more than nothing and at most {LEAF_LIFE.days} days")
        return _sign(
            self.issuer.certificate,
            self.issuer.key,
            key,
            subject=_subject(name, self.scope.trust_domain, unit=role),
            validity=_Validity.within(self.issuer.certificate, now, lifetime),
            constraints=x509.BasicConstraints(ca=False, path_length=None),
            usage=_LEAF_USAGE,
            extensions=[
                x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity.uri), *names]),
                x509.ExtendedKeyUsage(profile.usages),
            ],
        )


def create_root(trust_domain: str, *, now: datetime) -> CertifiedKey:
    """A self-signed P-384 root for `ROOT_LIFE`."""
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = _sign(
        None,
        key,
        key.public_key(),
        subject=_subject(f"root CA {secrets.token_hex(4)}", trust_domain),
        validity=_Validity.within(None, now, ROOT_LIFE),
        constraints=x509.BasicConstraints(ca=True, path_length=1),
        usage=_CA_USAGE,
    )
    return CertifiedKey(certificate, key)


def create_issuer(root: CertifiedKey, scope: Scope, *, now: datetime) -> CertifiedKey:
    """A P-384 issuing CA for `ISSUER_LIFE`, which can certify leaves within `scope` and no further CA."""
    key = ec.generate_private_key(ec.SECP384R1())
    certificate = _sign(
        root.certificate,
        root.key,
        key.public_key(),
        subject=_subject(f"issuing CA {secrets.token_hex(4)}", scope.trust_domain),
        validity=_Validity.within(root.certificate, now, ISSUER_LIFE),
        constraints=x509.BasicConstraints(ca=True, path_length=0),
        usage=_CA_USAGE,
        critical=[scope.constraints()],
    )
    return CertifiedKey(certificate, key)


def _subject(name: str, trust_domain: str, unit: str | None = None) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, trust_domain)]
    if unit is not None:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit))
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _sign(
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePublicKey,
    *,
    subject: x509.Name,
    validity: _Validity,
    constraints: x509.BasicConstraints,
    usage: tuple[str, ...],
    extensions: Sequence[x509.ExtensionType] = (),
    critical: Sequence[x509.ExtensionType] = (),
) -> x509.Certificate:
    """The one place that signs; strict verifiers want both key identifiers (RFC 5280 4.2.1)."""
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


def _pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(serialization.Encoding.PEM) for certificate in certificates)
