"""Every error of this room: one line that names the file or field and says the cure."""

from enum import StrEnum


class RejectReason(StrEnum):
    """Why a peer is refused, in words short enough to label a counter."""

    NO_CERTIFICATE = "no_certificate"
    UNTRUSTED = "untrusted"  # no path to a trusted root
    NOT_YET_VALID = "not_yet_valid"
    EXPIRED = "expired"
    REVOKED = "revoked"
    CRL = "crl"  # the revocation list expired, or lacks the peer's issuing CA
    WRONG_HOST = "wrong_host"
    WRONG_TRUST_DOMAIN = "wrong_trust_domain"
    NO_IDENTITY = "no_identity"  # a certificate that names nobody of this network
    OLD_TLS = "old_tls"
    BROKEN_TLS = "broken_tls"  # anything else that ended a handshake, the peer's own refusal included


class PkiError(Exception):
    """Base of everything that this room raises for a mistake outside of it."""


class IdentityError(PkiError):
    """A name, URI or certificate that is no identity of this network, or not the one that is needed."""

    def __init__(self, message: str, refusal: RejectReason = RejectReason.NO_IDENTITY) -> None:
        super().__init__(message)
        self.refusal = refusal


class SerialError(PkiError):
    """A text that is not a serial number, or may be one in decimal."""


class AuthorityError(PkiError):
    """The authority refuses to sign: a host out of its scope, a role without its hosts, an expired issuer."""


class RequestError(PkiError):
    """A signing request that cannot be read, is not signed by its own key, or asks for something else."""


class ChainError(PkiError):
    """A certificate that does not lead to a trusted root."""


class RevocationError(PkiError):
    """A revocation list that cannot be read, is expired, or is not signed by its CA."""


class StoreError(PkiError):
    """The authority's directory cannot be read, written or locked, or does not hold what it should."""


class InventoryError(PkiError):
    """An inventory that cannot be read, or names a host without what is needed."""


class TlsError(PkiError):
    """An identity's files cannot be used: which file, what is wrong with it, what to do."""
