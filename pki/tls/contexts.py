"""SSL contexts of one generation of files, and connections that check the peer once more than OpenSSL does.

OpenSSL verifies chain, dates, name and the revocation lists that were loaded with the context. What was revoked
since is known to the process alone, and the trust domain of an identity is in no name constraint
(`x509/name_constraints.py`): the connection itself looks at both when its handshake ends, so that no listener and no
dialler can forget to. Every refusal is counted by its reason on the way.
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
_REFUSALS = {  # OpenSSL's verification results, x509_vfy.h; all others mean that the chain is not acceptable
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
    """Plain counts since the process began, for metrics."""

    reloads: int = 0  # that brought something new
    reload_failures: int = 0
    refused: dict[RejectReason, int] = field(default_factory=lambda: dict.fromkeys(RejectReason, 0))


@dataclass(slots=True)
class PeerPolicy:
    """What a process's connections ask beyond OpenSSL: the same object for all contexts, through every reload."""

    statistics: TlsStatistics = field(default_factory=TlsStatistics)
    learned: frozenset[int] = frozenset()  # serial numbers revoked at run time
    revoked: frozenset[int] = frozenset()  # these, and those of the lists on the disk

    def count(self, refusal: RejectReason) -> None:
        """One more peer was refused."""
        self.statistics.refused[refusal] += 1


def refusal_of(error: ssl.SSLError) -> RejectReason:
    """Why a handshake failed, from the error that it raised."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _REFUSALS.get(getattr(error, "verify_code", 0), RejectReason.UNTRUSTED)
    return _REASONS.get(getattr(error, "reason", None) or "", RejectReason.BROKEN_TLS)


class PolicyCheckedObject(ssl.SSLObject):
    """A connection in memory, as event loops make them, which refuses more peers than OpenSSL (see `_admitting`).

    Whoever sets another class on a context of this room derives it from this one.
    """

    def do_handshake(self) -> None:
        """As in `ssl`; a refused peer raises `ssl.SSLCertVerificationError` like any other bad certificate."""
        with _admitting(self):
            super().do_handshake()


class AdmittedSocket(ssl.SSLSocket):
    """The same for blocking sockets."""

    def do_handshake(self, block: bool = False) -> None:
        """As in `ssl`; a refused peer raises `ssl.SSLCertVerificationError` like any other bad certificate."""
        with _admitting(self):
            super().do_handshake(block)


class AdmittingContext(ssl.SSLContext):
    """A context whose connections check the peer's trust domain and ask `admission` when their handshake ends."""

    sslobject_class = PolicyCheckedObject
    sslsocket_class = AdmittedSocket
    admission: PeerPolicy
    trust_domain: str


@contextmanager
def _admitting(connection: PolicyCheckedObject | AdmittedSocket) -> Iterator[None]:
    # a server's connection moves to the newest context during its handshake; both have the same admission and
    # trust domain
    context = connection.context
    try:
        yield
        if isinstance(context, AdmittingContext):
            _check_trust_domain(connection, context.trust_domain)
            _check_revocation(connection, context.admission.revoked)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
        raise
    except ssl.SSLError as error:
        if isinstance(context, AdmittingContext):
            _correct_verdict(connection, error, datetime.now(UTC))
            context.admission.count(refusal_of(error))
        raise


def _check_trust_domain(connection: ssl.SSLObject | ssl.SSLSocket, trust_domain: str) -> None:
    try:
        check_peer_uris(connection, trust_domain)
    except IdentityError as error:
        raise _refused(error, _FOREIGN_CODE, "identity of another trust domain") from None


def _correct_verdict(connection: ssl.SSLObject | ssl.SSLSocket, error: ssl.SSLError, now: datetime) -> None:
    """Name the expired certificate where OpenSSL complains of a list: it looks at lists before it looks at dates.

    The list of a CA that has expired is out of date too, or no longer handed out.
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
    """The chain that OpenSSL built for the peer, leaf first, also when it then refused it."""
    # Python 3.13 has the method on the connection itself.
    built = connection._sslobj.get_verified_chain()  # type: ignore[union-attr]
    try:
        return [read_peer_certificate(one.public_bytes(_ssl.ENCODING_DER)) for one in built or ()]
    except ValueError:  # whatever is wrong with it, OpenSSL's own words stay
        return []


def _check_revocation(connection: ssl.SSLObject | ssl.SSLSocket, revoked: frozenset[int]) -> None:
    try:
        peer_certificate(connection).check_revocation(revoked)
    except IdentityError as error:
        if error.refusal is not RejectReason.REVOKED:  # no certificate, or a stranger's: whoever serves it decides
            return
        raise _refused(error, _REVOKED_CODE, "certificate revoked") from None


def _refused(error: IdentityError, code: int, message: str) -> ssl.SSLCertVerificationError:
    """What OpenSSL raises for a bad certificate, with one of its verification results."""
    refused = ssl.SSLCertVerificationError(1, f"certificate verify failed: {error}")
    refused.library, refused.reason = "SSL", "CERTIFICATE_VERIFY_FAILED"
    refused.verify_code, refused.verify_message = code, message
    return refused


def server_context(
    files: TlsFiles, credential: Credential, admission: PeerPolicy, verify_mode: ssl.VerifyMode
) -> ssl.SSLContext:
    """To listen with: TLS 1.3, no session tickets."""
    context = _context(ssl.PROTOCOL_TLS_SERVER, files, credential, admission)
    context.verify_mode = verify_mode
    context.num_tickets = 0
    return context


def client_context(files: TlsFiles, credential: Credential, admission: PeerPolicy) -> ssl.SSLContext:
    """To dial with: TLS 1.3, the peer's name or address verified."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, files, credential, admission)
    context.check_hostname = True
    context.hostname_checks_common_name = False
    return context


def _context(protocol: int, files: TlsFiles, credential: Credential, admission: PeerPolicy) -> AdmittingContext:
    context = AdmittingContext(protocol)
    context.admission = admission
    context.trust_domain = credential.identity.trust_domain
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.load_verify_locations(cadata=credential.ca_pem.decode("ascii"))
    if credential.revocations is not None and files.crl is not None:
        # A file of lists alone, as `RevocationLists.read` saw to: a certificate in it would become a root.
        context.load_verify_locations(cafile=files.crl)
        context.verify_flags |= _revocation_flags(credential)
    context.load_cert_chain(files.certificate, files.key)
    return context


def _revocation_flags(credential: Credential) -> ssl.VerifyFlags:
    """Check leaves, and CAs too where every root has its list: OpenSSL refuses whom it finds no list for."""
    if _all_listed(credential, credential.issuers):
        return ssl.VERIFY_CRL_CHECK_CHAIN
    return ssl.VERIFY_CRL_CHECK_LEAF


def _all_listed(credential: Credential, authorities: Sequence[x509.Certificate]) -> bool:
    lists = credential.revocations
    try:
        return lists is not None and all(lists.of(authority) is not None for authority in authorities)
    except RevocationError:
        return False
