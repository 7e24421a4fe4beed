"""Identity of a connection's peer, from the certificate that the handshake verified.

The handshake verifies a certificate once, but the connection stays open. Servers therefore check the peer again at
each call, so that expiry and revocation act on open connections too. Parsed certificates are cached, which keeps the
check cheap. Revocation must be checked here because gRPC's handshakes do not use CRLs.
"""

import _ssl
import ssl
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Self

from cryptography import x509

from pki.errors import IdentityError, RejectReason
from pki.x509.identity import Identity, identity_of
from pki.x509.parsing import read_certificates, read_peer_certificate
from pki.x509.serials import format_serial

_CACHE_SIZE = 4096  # certificates; a network has fewer members, and a parse costs well under a millisecond
_TLS = b"TLSv1.3"


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """Fields of a peer's verified certificate."""

    identity: Identity
    serial: int
    not_before: datetime
    not_after: datetime

    @classmethod
    def of(cls, certificate: x509.Certificate) -> Self:
        """Extract the fields; raise `IdentityError` when the certificate has no identity."""
        return cls(
            identity_of(certificate),
            certificate.serial_number,
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )

    def check(self, trust_domain: str, now: datetime) -> None:
        """Raise `IdentityError` unless it is of `trust_domain` and valid at `now`."""
        _check_trust_domain(self.identity, trust_domain)
        if now >= self.not_after:
            raise IdentityError(
                f"certificate of {self.identity} expired at {self.not_after:%Y-%m-%d %H:%M} UTC: renew it",
                RejectReason.EXPIRED,
            )
        if now < self.not_before:
            raise IdentityError(
                f"certificate of {self.identity} is not valid before {self.not_before:%Y-%m-%d %H:%M} UTC: "
                "check the clocks",
                RejectReason.NOT_YET_VALID,
            )

    def check_revocation(self, revoked: Collection[int], issuers: Iterable[int] = ()) -> None:
        """Raise `IdentityError` when its serial number, or one of its issuers', is among `revoked`."""
        if self.serial in revoked:
            raise IdentityError(
                f"certificate {format_serial(self.serial)} of {self.identity} is revoked: issue a new one",
                RejectReason.REVOKED,
            )
        for serial in issuers:
            if serial in revoked:
                raise IdentityError(
                    f"issuing CA {format_serial(serial)} of {self.identity} is revoked: issue a new certificate",
                    RejectReason.REVOKED,
                )


def peer_certificate(connection: ssl.SSLObject | ssl.SSLSocket) -> PeerCertificate:
    """Return the peer's certificate after a verified handshake; raise `IdentityError` when there is none."""
    der = connection.getpeercert(binary_form=True)
    if not der:
        raise _no_certificate()
    return _parse(der)


def check_peer_uris(connection: ssl.SSLObject | ssl.SSLSocket, trust_domain: str) -> None:
    """Raise `IdentityError` when the peer's certificate has a URI that is not an identity of `trust_domain`.

    A URI name constraint of the issuing CA would do the same, but makes rustls refuse the whole chain. A certificate
    without a URI, or a malformed one, passes: it is refused where an identity is needed.
    """
    der = connection.getpeercert(binary_form=True)
    if der:
        for identity in _parse_uris(der):
            _check_trust_domain(identity, trust_domain)


def peer_identity(connection: ssl.SSLObject | ssl.SSLSocket, trust_domain: str) -> Identity:
    """Return the peer's identity directly after a handshake, which checked the validity; raise `IdentityError`."""
    identity = peer_certificate(connection).identity
    _check_trust_domain(identity, trust_domain)
    return identity


def auth_context_of(connection: ssl.SSLObject | ssl.SSLSocket) -> dict[str, tuple[bytes, ...]]:
    """Return what gRPC's `auth_context` says of a verified connection: TLS version, certificate, verified chain.

    For servers that do TLS by themselves. `check_grpc_peer` takes it.
    """
    context: dict[str, tuple[bytes, ...]] = {"ssl_tls_version": ((connection.version() or "").encode(),)}
    # Python 3.13 has the method on the connection itself.
    chain = connection._sslobj.get_verified_chain()  # type: ignore[union-attr]
    if chain:
        pem = [one.public_bytes(_ssl.ENCODING_PEM).encode() for one in chain]
        context["x509_pem_cert"] = (pem[0],)
        context["x509_pem_cert_chain"] = (b"".join(pem),)
    return context


def grpc_peer_certificate(
    auth_context: Mapping[str, Iterable[bytes]], trust_domain: str, now: datetime
) -> PeerCertificate:
    """Return the certificate of a gRPC caller, from `context.auth_context()`; `now` must be timezone-aware.

    Raises `IdentityError` when there is none, it has no identity in `trust_domain`, it is not valid at `now`, or the
    connection is not TLS 1.3 (gRPC has no such setting; see `pki/__init__.py`).
    """
    pem = next(iter(auth_context.get("x509_pem_cert", ())), None)
    if pem is None:
        raise _no_certificate()
    version = next(iter(auth_context.get("ssl_tls_version", ())), None)
    if version != _TLS:
        spoken = (version or b"not TLS").decode("ascii", "replace")
        raise IdentityError(f"connection is {spoken}: use TLS 1.3", RejectReason.OLD_TLS)
    certificate = _parse(pem)
    certificate.check(trust_domain, now)
    return certificate


def grpc_peer_identity(auth_context: Mapping[str, Iterable[bytes]], trust_domain: str, now: datetime) -> Identity:
    """Return the identity of a gRPC caller; see `grpc_peer_certificate`."""
    return grpc_peer_certificate(auth_context, trust_domain, now).identity


def grpc_issuer_serials(auth_context: Mapping[str, Iterable[bytes]]) -> tuple[int, ...]:
    """Return the serial numbers of the CAs that a gRPC peer sent; raise `IdentityError` if one is malformed.

    They include every CA of the verified path below the root, because listeners hold only roots.
    """
    return _parse_issuers(b"".join(auth_context.get("x509_pem_cert_chain", ())))


def _no_certificate() -> IdentityError:
    return IdentityError("no client certificate: connect with one from `pki issue`", RejectReason.NO_CERTIFICATE)


def _check_trust_domain(identity: Identity, trust_domain: str) -> None:
    if identity.trust_domain != trust_domain:
        raise IdentityError(f"{identity} is not of the trust domain {trust_domain}", RejectReason.WRONG_TRUST_DOMAIN)


@lru_cache(maxsize=_CACHE_SIZE)
def _parse(data: bytes) -> PeerCertificate:
    try:
        return PeerCertificate.of(read_peer_certificate(data))
    except ValueError:
        raise IdentityError("client certificate cannot be read") from None


@lru_cache(maxsize=_CACHE_SIZE)
def _parse_uris(der: bytes) -> tuple[Identity, ...]:
    try:
        names = read_peer_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return ()
    try:
        return tuple(Identity.parse(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier))
    except IdentityError:  # without the URI, whose length the peer controls
        raise IdentityError(
            "certificate has a URI that is not a SPIFFE identity: issue it with `pki issue`"
        ) from None


@lru_cache(maxsize=_CACHE_SIZE)
def _parse_issuers(pem: bytes) -> tuple[int, ...]:
    if not pem:
        return ()
    try:
        return tuple(certificate.serial_number for certificate in read_certificates(pem))
    except ValueError:
        raise IdentityError("client's issuing CA cannot be read") from None
