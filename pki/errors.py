"""Errors of the package: each message is one line that names the file or field and the fix."""

from enum import StrEnum


class RejectReason(StrEnum):
    """Reason for refusing a peer; the value is a metric label."""

    NO_CERTIFICATE = "no_certificate"
    UNTRUSTED = "untrusted"  # no path to a trusted root
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    CRL = "crl"  # the revocation list expired, or lacks the peer's issuing CA
    WRONG_HOST = "wrong_host"
    WRONG_TRUST_DOMAIN = "wrong_trust_domain"
    NO_IDENTITY = "no_identity"  # the certificate has no identity of this network
    OLD_TLS = "old_tls"
    BROKEN_TLS = "broken_tls"  # any other handshake failure, including a refusal by the peer


class PkiError(Exception):
    """Base class of the errors that this package raises for invalid input, files or peers."""


class IdentityError(PkiError):
    """A name, URI or certificate is not an identity of this network, or not the required one."""

    def __init__(self, message: str, refusal: RejectReason = RejectReason.NO_IDENTITY) -> None:
        super().__init__(message)
        self.refusal = refusal


class SerialError(PkiError):
    """A text is not a serial number, or may be a decimal one."""


class AuthorityError(PkiError):
    """The authority refuses to sign: a host outside its name constraints, missing hosts, an expired issuer."""


class RequestError(PkiError):
    """A CSR is malformed, not signed by its own key, or requests different names."""


class ChainError(PkiError):
    """A certificate has no path to a trusted root."""


class RevocationError(PkiError):
    """A CRL is malformed, expired, or not signed by its CA."""


class StoreError(PkiError):
    """The authority's directory cannot be read, written or locked, or its content is inconsistent."""


class InventoryError(PkiError):
    """An inventory is malformed, or a host in it lacks required variables."""


class TlsError(PkiError):
    """The TLS files of an identity cannot be used; the message names the file, the problem and the fix."""
