"""Certificates that must be refused: forged, stolen or misconfigured."""

import ssl
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

from pki.ca.authority import Authority, CertifiedKey, create_issuer, create_root
from pki.ca.issued import IssuedIdentity
from pki.ca.profiles import ISSUER_LIFE
from pki.ca.signing import CA_USAGE, Validity, sign_certificate
from pki.x509.identity import Identity, Role
from pki.x509.name_constraints import NameConstraints, parse_host

TRUST_DOMAIN = "zkp.local"
HOSTS = ("127.0.0.1", "::1", "localhost")
AGE = timedelta(days=60)  # of the authority, so that it can have signed leaves that are expired by now


def authority(now: datetime, trust_domain: str = TRUST_DOMAIN) -> Authority:
    """An authority that was made `AGE` ago."""
    return Authority.create(trust_domain, now=now - AGE)


def issuer_of(issued: IssuedIdentity, roots: tuple[x509.Certificate, ...], scope: NameConstraints) -> Authority:
    """A leaf's holder who plays authority."""
    key = serialization.load_pem_private_key(issued.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Authority(CertifiedKey(issued.certificate, key), roots, scope)


def refused(honest: Authority, now: datetime, role: Role, hosts: Sequence[str] = HOSTS) -> dict[str, IssuedIdentity]:
    """What nobody may accept who trusts `honest`, by what is wrong with it."""
    name = "node-1"
    good = honest.issue(name, role, hosts, now=now)
    below = issuer_of(good, honest.roots, honest.scope).issue(name, role, hosts, now=now)
    thief = replace(honest, scope=NameConstraints.of(TRUST_DOMAIN, ["evil.example"]))
    return {
        "wrong CA": authority(now).issue(name, role, hosts, now=now),
        "expired": honest.issue(name, role, hosts, now=now - timedelta(days=45)),
        "not yet valid": honest.issue(name, role, hosts, now=now + timedelta(days=1)),
        "self-signed": self_signed(good, now),
        "CA used as a leaf": ca_as_leaf(honest, good),
        "leaf used as a CA": replace(below, certificate_pem=below.certificate_pem + good.certificate_pem),
        "foreign DNS name": thief.issue(name, role, [*hosts, "www.evil.example"], now=now),
        "foreign trust domain": foreign_leaf(honest, now, role, hosts),
    }


def foreign_leaf(honest: Authority, now: datetime, role: Role, hosts: Sequence[str] = HOSTS) -> IssuedIdentity:
    """A leaf of another trust domain, signed with a stolen issuing key: no name constraint speaks of its URI."""
    good = honest.issue("node-1", role, hosts, now=now)
    foreign = subject_names(hosts, Identity("evil.example", role, "node-1").uri)
    key = ec.generate_private_key(ec.SECP256R1())
    return signed_leaf(good, key, honest.issuer.key, honest.issuer.certificate.subject, now, names=foreign)


def subject_names(hosts: Sequence[str], *uris: str) -> x509.SubjectAlternativeName:
    """Just these, without the DNS name that the authority adds."""
    return x509.SubjectAlternativeName([*map(x509.UniformResourceIdentifier, uris), *map(parse_host, hosts)])


def old_authority(now: datetime) -> Authority:
    """One made before November 2026: its issuing CA also constrains URIs."""
    root = create_root(TRUST_DOMAIN, now=now)
    scope = NameConstraints.of(TRUST_DOMAIN)
    made = create_issuer(root, scope, now=now)
    permitted = [x509.UniformResourceIdentifier(TRUST_DOMAIN), *map(x509.DNSName, scope.domains)]
    issuer = sign_certificate(
        root.certificate,
        root.key,
        made.key.public_key(),
        subject=made.certificate.subject,
        validity=Validity.within(root.certificate, now, ISSUER_LIFE),
        constraints=x509.BasicConstraints(ca=True, path_length=0),
        usage=CA_USAGE,
        critical=[x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=None)],
    )
    return Authority(CertifiedKey(issuer, made.key), (root.certificate,), scope, root)


def old_leaf(by: Authority, name: str, role: Role, hosts: Sequence[str] = (), *, now: datetime) -> IssuedIdentity:
    """A leaf made before November 2026: without the DNS name of its identity."""
    good = by.issue(name, role, hosts or HOSTS, now=now)
    key = ec.generate_private_key(ec.SECP256R1())
    names = subject_names(hosts, good.identity.uri)
    return signed_leaf(good, key, by.issuer.key, by.issuer.certificate.subject, now, names=names)


def self_signed(good: IssuedIdentity, now: datetime) -> IssuedIdentity:
    """The identity of `good`, vouched for by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    return signed_leaf(good, key, key, good.certificate.subject, now)


def ca_as_leaf(honest: Authority, good: IssuedIdentity) -> IssuedIdentity:
    """The issuing CA's own certificate and key, served as if it were a node's."""
    certificate = honest.issuer.certificate
    return replace(
        good,
        certificate=certificate,
        certificate_pem=certificate.public_bytes(serialization.Encoding.PEM),
        key_pem=plain_pem(honest.issuer.key),
    )


def expired_ca(honest: Authority, ca: x509.Certificate, now: datetime) -> x509.Certificate:
    """The same issuing CA, its key included, with a validity that ended yesterday."""
    assert honest.root is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(ca.subject)
        .issuer_name(ca.issuer)
        .public_key(ca.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ca.not_valid_before_utc)
        .not_valid_after(now - timedelta(days=1))
    )
    for extension in ca.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    return builder.sign(honest.root.key, hashes.SHA384())


def bare_context(protocol: int, shown: IssuedIdentity, directory: Path) -> ssl.SSLContext:
    """A context that shows this certificate, without the checks that `TlsMaterial` makes of its own files."""
    certificate, key = directory / "shown.pem", directory / "shown.key"
    certificate.write_bytes(shown.certificate_pem)
    key.write_bytes(shown.key_pem)
    context = ssl.SSLContext(protocol)
    context.load_verify_locations(cadata=shown.ca_pem.decode("ascii"))
    context.load_cert_chain(certificate, key)
    return context


def signed_leaf(
    good: IssuedIdentity,
    key: CertificateIssuerPrivateKeyTypes,
    signer: CertificateIssuerPrivateKeyTypes,
    issuer: x509.Name,
    now: datetime,
    *,
    names: x509.SubjectAlternativeName | None = None,
) -> IssuedIdentity:
    """The extensions of `good` around another key, signed by whoever; `names` replaces its names."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(good.certificate.subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - timedelta(minutes=1))
        .not_valid_after(now.astimezone(UTC) + timedelta(days=1))
    )
    for extension in good.certificate.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectKeyIdentifier):
            value = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        elif isinstance(value, x509.AuthorityKeyIdentifier):
            value = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        elif isinstance(value, x509.SubjectAlternativeName) and names is not None:
            value = names
        builder = builder.add_extension(value, extension.critical)
    # Ed25519 and Ed448 bring their own hash
    algorithm = hashes.SHA384() if isinstance(signer, ec.EllipticCurvePrivateKey) else None
    certificate = builder.sign(signer, algorithm)
    issuing_ca = x509.load_pem_x509_certificates(good.certificate_pem)[1]
    return replace(
        good,
        certificate=certificate,
        certificate_pem=certificate.public_bytes(serialization.Encoding.PEM)
        + issuing_ca.public_bytes(serialization.Encoding.PEM),
        key_pem=plain_pem(key),
    )


def plain_pem(key: CertificateIssuerPrivateKeyTypes) -> bytes:
    """PKCS #8 without a passphrase."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def identity(role: Role = Role.WORKER, name: str = "worker-1") -> Identity:
    """Somebody of the trust domain."""
    return Identity(TRUST_DOMAIN, role, name)
