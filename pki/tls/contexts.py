"""SSL contexts of one generation of files, and connections with checks beyond those of OpenSSL.

OpenSSL verifies the chain, dates, name and the CRLs that were loaded with the context. Later revocations are known
only to the process, and the trust domain of an identity is not in the name constraints (`x509/name_constraints.py`).
The connection checks both when its handshake ends, so that every listener and client does. Every refusal is counted
by its reason.
"""

import _ssl
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509

from pki.errors import IdentityError, RejectReason, RevocationError
from pki.files import TlsFiles
from pki.tls.credential import Credential
from pki.tls.peers import check_peer_uris, peer_certificate
from pki.x509.parsing import read_peer_certificate

_NOT_YET_VALID_CODE, _EXPIRED_CODE, _REVOKED_CODE = 9, 10, 23
_FOREIGN_CODE = 50  # X509_V_ERR_APPLICATION_VERIFICATION
_REFUSALS = {  # OpenSSL's verification results, x509_vfy.h; all others are UNTRUSTED
    _NOT_YET_VALID_CODE: RejectReason.NOT_YET_VALID,
    _EXPIRED_CODE: RejectReason.EXPIRED,
    _REVOKED_CODE: RejectReason.REVOKED,
    _FOREIGN_CODE: RejectReason.WRONG_TRUST_DOMAIN,
    **dict.fromkeys((3, 5, 8, 11, 12, 15, 16, 33, 35, 36, 44, 54), RejectReason.CRL),
    **dict.fromkeys((62, 63, 64), RejectReason.WRONG_HOST),
}
_REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": RejectReason.NO_CERTIFICATE,
    "UNSUPPORTED_PROTOCOL": RejectReason.OLD_TLS,
}


@dataclass(slots=True)
class TlsStatistics:
    """Counts since the start of the process, for metrics."""

    reloads: int = 0  # with changed files
    reload_failures: int = 0
    refused: dict[RejectReason, int] = field(default_factory=lambda: dict.fromkeys(RejectReason, 0))


@dataclass(slots=True)
class PeerPolicy:
    """Checks beyond OpenSSL's: one object for all contexts of a process, kept across reloads."""

    statistics: TlsStatistics = field(default_factory=TlsStatistics)
    learned: frozenset[int] = frozenset()  # serial numbers revoked at run time
    revoked: frozenset[int] = frozenset()  # these, and those of the lists on the disk

    def count(self, refusal: RejectReason) -> None:
        """Count a refused peer."""
        self.statistics.refused[refusal] += 1


def refusal_of(error: ssl.SSLError) -> RejectReason:
    """Return why a handshake failed, from the error that it raised."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _REFUSALS.get(getattr(error, "verify_code", 0), RejectReason.UNTRUSTED)
    return _REASONS.get(getattr(error, "reason", None) or "", RejectReason.BROKEN_TLS)


class PolicyCheckedObject(ssl.SSLObject):
    """Connection on memory buffers, as event loops use, with the checks of `_apply_policy`.

    Another class that is set on a context of this package must derive from this one.
    """

    def do_handshake(self) -> None:
        """As in `ssl`; a refused peer raises `ssl.SSLCertVerificationError` like any other bad certificate."""
        with _apply_policy(self):
            super().do_handshake()


class PolicyCheckedSocket(ssl.SSLSocket):
    """Blocking socket with the checks of `_apply_policy`."""

    def do_handshake(self, block: bool = False) -> None:
        """As in `ssl`; a refused peer raises `ssl.SSLCertVerificationError` like any other bad certificate."""
        with _apply_policy(self):
            super().do_handshake(block)


class PolicyCheckingContext(ssl.SSLContext):
    """Context whose connections check the peer's trust domain and `policy` when their handshake ends."""

    sslobject_class = PolicyCheckedObject
    sslsocket_class = PolicyCheckedSocket
    policy: PeerPolicy
    trust_domain: str
    refuses_learned: bool
    """Whether handshakes fail for certificates revoked at run time; otherwise the server must check them itself."""


@contextmanager
def _apply_policy(connection: PolicyCheckedObject | PolicyCheckedSocket) -> Iterator[None]:
    # a server's connection moves to the newest context during its handshake; both have the same policy and
    # trust domain
    context = connection.context
    try:
        yield
        if isinstance(context, PolicyCheckingContext):
            _check_trust_domain(connection, context.trust_domain)
            if context.refuses_learned:
                _check_revocation(connection, context.policy.revoked)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        raise
    except ssl.SSLError as error:
        if isinstance(context, PolicyCheckingContext):
            _correct_verdict(connection, error, datetime.now(UTC))
            context.policy.count(refusal_of(error))
        raise


def _check_trust_domain(connection: ssl.SSLObject | ssl.SSLSocket, trust_domain: str) -> None:
    try:
        check_peer_uris(connection, trust_domain)
    except IdentityError as error:
        raise _refused(error, _FOREIGN_CODE, "identity of another trust domain") from None


def _correct_verdict(connection: ssl.SSLObject | ssl.SSLSocket, error: ssl.SSLError, now: datetime) -> None:
    """Replace a CRL error by the expired certificate that caused it: OpenSSL checks CRLs before dates.

    The CRL of an expired CA is out of date too, or no longer distributed.
    """
    if not isinstance(error, ssl.SSLCertVerificationError) or refusal_of(error) is not RejectReason.CRL:
        return
    for certificate in _chain_of(connection):
        who = certificate.subject.rfc4514_string()
        if now >= certificate.not_valid_after_utc:
            error.verify_code, error.verify_message = _EXPIRED_CODE, f"certificate of {who} has expired"
        elif now < certificate.not_valid_before_utc:
            error.verify_code, error.verify_message = _NOT_YET_VALID_CODE, f"certificate of {who} is not yet valid"
        else:
            continue
        error.strerror = f"certificate verify failed: {error.verify_message}"
        return


def _chain_of(connection: ssl.SSLObject | ssl.SSLSocket) -> list[x509.Certificate]:
    """Return the chain that OpenSSL built for the peer, leaf first, even if it refused it."""
    # Python 3.13 has the method on the connection itself.
    built = connection._sslobj.get_verified_chain()  # type: ignore[union-attr]
    try:
        return [read_peer_certificate(one.public_bytes(_ssl.ENCODING_DER)) for one in built or ()]
    except ValueError:  # keep OpenSSL's message
        return []


def _check_revocation(connection: ssl.SSLObject | ssl.SSLSocket, revoked: frozenset[int]) -> None:
    try:
        peer_certificate(connection).check_revocation(revoked)
    except IdentityError as error:
        if error.refusal is not RejectReason.REVOKED:  # no certificate or identity: the server decides
            return
        raise _refused(error, _REVOKED_CODE, "certificate revoked") from None


def _refused(error: IdentityError, code: int, message: str) -> ssl.SSLCertVerificationError:
    """Return the error that OpenSSL raises for a bad certificate, with one of its verification results."""
    refused = ssl.SSLCertVerificationError(1, f"certificate verify failed: {error}")
    refused.library, refused.reason = "SSL", "CERTIFICATE_VERIFY_FAILED"
    refused.verify_code, refused.verify_message = code, message
    return refused


def server_context(
    files: TlsFiles,
    credential: Credential,
    policy: PeerPolicy,
    verify_mode: ssl.VerifyMode,
    *,
    alpn: Sequence[str] = (),
    refuses_learned: bool = True,
) -> ssl.SSLContext:
    """Make a context for listeners: TLS 1.3, no session tickets. `alpn`: protocols of RFC 7301, if any."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, files, credential, policy)
    context.verify_mode = verify_mode
    context.num_tickets = 0
    context.refuses_learned = refuses_learned
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


def client_context(files: TlsFiles, credential: Credential, policy: PeerPolicy) -> ssl.SSLContext:
    """Make a context for clients: TLS 1.3, the peer's name or address verified."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, files, credential, policy)
    context.check_hostname = True
    context.hostname_checks_common_name = False
    return context


def _context(protocol: int, files: TlsFiles, credential: Credential, policy: PeerPolicy) -> PolicyCheckingContext:
    context = PolicyCheckingContext(protocol)
    context.policy = policy
    context.refuses_learned = True
    context.trust_domain = credential.identity.trust_domain
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=credential.ca_pem.decode("ascii"))
    if credential.revocations is not None and files.crl is not None:
        # `RevocationLists.read` has checked that the file holds only CRLs: a certificate in it would become a root.
        context.load_verify_locations(cafile=files.crl)
        context.verify_flags |= _revocation_flags(credential)
    context.load_cert_chain(files.certificate, files.key)
    return context


def _revocation_flags(credential: Credential) -> ssl.VerifyFlags:
    """Check leaves, and CAs only if every CA has a CRL: OpenSSL refuses a certificate without one."""
    if _all_listed(credential, credential.issuers):
        return ssl.VERIFY_CRL_CHECK_CHAIN
    return ssl.VERIFY_CRL_CHECK_LEAF


def _all_listed(credential: Credential, authorities: Sequence[x509.Certificate]) -> bool:
    lists = credential.revocations
    try:
        return lists is not None and all(lists.of(authority) is not None for authority in authorities)
    except RevocationError:
        return False
