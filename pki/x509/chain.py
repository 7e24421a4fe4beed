"""Verification of a certificate chain as a TLS peer does it, with errors that an operator can act on.

Peers verify again, with OpenSSL or BoringSSL. This check lets a process detect an unusable certificate of its own at
start-up instead of by refused connections.
"""

from collections.abc import Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from pki.errors import AuthorityError, ChainError, IdentityError
from pki.x509.identity import identity_of
from pki.x509.name_constraints import NameConstraints
from pki.x509.parsing import UNREADABLE

_MAX_PATH_LENGTH = 4  # certificates: leaf, issuing CA, root, and one more for a cross-signed root


def verify_chain(
    leaf: x509.Certificate,
    issuers: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: datetime,
) -> tuple[x509.Certificate, ...]:
    """Return the path from `leaf` over `issuers` to one of `roots`; raise `ChainError` if there is none."""
    check_validity(leaf, now)
    if is_authority(leaf):
        raise ChainError("it is a CA certificate, not a leaf: use one from `pki issue`")
    return _build_path((leaf,), issuers, roots, now)


def check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """Raise `ChainError` when `now` is outside the certificate's validity."""
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    who = certificate.subject.rfc4514_string()
    if now < first:
        raise ChainError(f"{who} is not valid before {first:%Y-%m-%d %H:%M} UTC: check this host's clock")
    if now >= last:
        raise ChainError(f"{who} expired at {last:%Y-%m-%d %H:%M} UTC: issue a new one with `pki issue --replace`")


def _build_path(
    path: tuple[x509.Certificate, ...],
    issuers: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    now: datetime,
) -> tuple[x509.Certificate, ...]:
    """Extend `path` by issuers up to a root; raise `ChainError` with the first obstacle if none is reached."""
    below = path[-1]
    refusal = ChainError(
        f"no trusted root and no issuing CA signed {below.subject.rfc4514_string()} "
        f"(its issuer is {below.issuer.rfc4514_string()}): "
        "the certificate and the roots are of different authorities"
    )
    if len(path) >= _MAX_PATH_LENGTH:
        raise refusal
    obstacle = None
    for candidate in (*roots, *issuers):
        if not _signed_by(below, candidate):
            continue
        try:
            _check_issuer(candidate, path, now)
            if candidate in roots:
                return (*path, candidate)
            return _build_path((*path, candidate), issuers, roots, now)
        except ChainError as error:
            obstacle = obstacle or error
    raise obstacle or refusal


def _signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):  # wrong signature or name, or an unsupported key
        return False
    return True


def _check_issuer(issuer: x509.Certificate, path: tuple[x509.Certificate, ...], now: datetime) -> None:
    who = issuer.subject.rfc4514_string()
    check_validity(issuer, now)
    if not is_authority(issuer):
        raise ChainError(f"{who} signed a certificate but is not a CA: do not trust it")
    constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    if constraints.path_length is not None and len(path) - 1 > constraints.path_length:
        raise ChainError(f"{who} may have at most {constraints.path_length} CAs below it")
    try:
        scope = NameConstraints.read(issuer)
    except AuthorityError:  # a root or a foreign CA: TLS peers enforce its own constraints
        return
    _check_names(path[0], scope, who)


def _check_names(leaf: x509.Certificate, scope: NameConstraints, issuer: str) -> None:
    try:
        trust_domain = identity_of(leaf).trust_domain
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for host in names:
            if isinstance(host, x509.DNSName):
                scope.check(host)
    except (IdentityError, AuthorityError) as error:
        raise ChainError(f"{issuer} may not certify this leaf: {error}") from None
    if trust_domain != scope.trust_domain:
        raise ChainError(f"{issuer} may not certify the trust domain {trust_domain}, only {scope.trust_domain}")


def is_authority(certificate: x509.Certificate) -> bool:
    """Return whether the certificate is a CA certificate."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    return constraints.ca and usage.key_cert_sign
