"""SSL contexts and gRPC credentials of a process, and their reload.

TLS 1.3 only, mutual authentication, no session tickets (a ticket would outlive a revocation). Server contexts and
gRPC server credentials follow `reload()`; clients must request a context or credentials for each new connection.
"""

import ssl
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import grpc
from cryptography import x509

from pki.errors import IdentityError, RejectReason, TlsError
from pki.files import TlsFiles
from pki.tls.contexts import (
    PeerPolicy,
    PolicyCheckedObject,
    TlsStatistics,
    client_context,
    refusal_of,
    server_context,
)
from pki.tls.credential import Credential
from pki.tls.peers import (
    PeerCertificate,
    auth_context_of,
    grpc_issuer_serials,
    grpc_peer_certificate,
    grpc_peer_identity,
    peer_certificate,
    peer_identity,
)
from pki.x509.identity import Identity

__all__ = [
    "IdentityError",
    "PeerCertificate",
    "PolicyCheckedObject",
    "RejectReason",
    "TlsError",
    "TlsFiles",
    "TlsMaterial",
    "TlsStatistics",
    "auth_context_of",
    "grpc_peer_certificate",
    "grpc_peer_identity",
    "peer_certificate",
    "peer_identity",
    "refusal_of",
]

_READ_ATTEMPTS = 3


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Generation:
    """Immutable result of one read of the files: the credential and everything made from it."""

    credential: Credential
    required: ssl.SSLContext
    optional: ssl.SSLContext
    http2: ssl.SSLContext
    client: ssl.SSLContext
    grpc_server: grpc.ServerCertificateConfiguration


class TlsMaterial:
    """TLS identity of a process: contexts and credentials to serve and dial with, and their reload."""

    def __init__(
        self, files: TlsFiles, clock: Callable[[], datetime], generation: _Generation, policy: PeerPolicy
    ) -> None:
        self._files = files
        self._clock = clock
        self._policy = policy
        self._generation = generation
        self._apply_revocations()
        generation.required.sni_callback = self._serve_current_required
        generation.optional.sni_callback = self._serve_current_optional
        generation.http2.sni_callback = self._serve_current_http2
        self._required = generation.required
        self._http2 = generation.http2
        self._optional = generation.optional

    @classmethod
    def load(cls, files: TlsFiles, *, clock: Callable[[], datetime] = _utc_now) -> Self:
        """Read and check the files; raise `TlsError`, one line with the file and the fix."""
        policy = PeerPolicy()
        return cls(files, clock, _read_generation(files, clock(), policy), policy)

    def __repr__(self) -> str:
        return f"TlsMaterial({self.identity}, {self._files.certificate})"

    @property
    def files(self) -> TlsFiles:
        """Where it was read from."""
        return self._files

    @property
    def identity(self) -> Identity:
        """Who this process is; a reload never changes it."""
        return self._generation.credential.identity

    @property
    def certificate(self) -> x509.Certificate:
        """The leaf that is served now."""
        return self._generation.credential.leaf

    def seconds_to_expiry(self) -> float:
        """Seconds until the served leaf expires; negative afterwards."""
        return (self.certificate.not_valid_after_utc - self._clock()).total_seconds()

    def crl_seconds_to_expiry(self) -> dict[int, float]:
        """Return the seconds until each CRL of this process's own chain and roots expires, by its CA's serial."""
        lists, now = self._generation.credential.revocations, self._clock()
        ends = {} if lists is None else lists.next_updates(self._generation.credential.issuers)
        return {serial: (end - now).total_seconds() for serial, end in ends.items()}

    @property
    def statistics(self) -> TlsStatistics:
        """Counts of reloads and refusals; the object is updated in place."""
        return self._policy.statistics

    def revoked_serials(self) -> frozenset[int]:
        """Return the refused serial numbers: those of the CRLs, and those given to `revoke`."""
        return self._policy.revoked

    def revoke(self, serials: Iterable[int]) -> None:
        """Refuse these serial numbers from now on, across reloads, in handshakes and checked calls.

        They are not stored: a restarted process must be given them again.
        """
        self._policy.learned |= frozenset(serials)
        self._apply_revocations()

    def reload(self) -> bool:
        """Read the files again, CRLs included; return whether they have changed.

        Raises `TlsError` if they are invalid or belong to another identity; the old credentials stay active.
        """
        try:
            fresh = self._read_again()
        except TlsError:
            self.statistics.reload_failures += 1
            raise
        if fresh.credential == self._generation.credential:
            return False
        self._generation = fresh
        self._apply_revocations()
        self.statistics.reloads += 1
        return True

    def check_peer(self, connection: ssl.SSLObject | ssl.SSLSocket, now: datetime) -> PeerCertificate:
        """Return the peer's certificate of a verified connection, if it is still accepted at `now`.

        Raises `IdentityError` when there is none, or it is of another trust domain, not valid at `now`, or revoked.
        Call it for each request, so that expiry and revocation act on open connections.
        """
        return self._checked(lambda: (peer_certificate(connection), ()), now)

    def check_grpc_peer(self, auth_context: Mapping[str, Iterable[bytes]], now: datetime) -> PeerCertificate:
        """As `check_peer`, for a gRPC call, from `context.auth_context()`. gRPC itself does not check revocation."""
        trust_domain = self.identity.trust_domain
        return self._checked(
            lambda: (
                grpc_peer_certificate(auth_context, trust_domain, now),
                grpc_issuer_serials(auth_context),
            ),
            now,
        )

    def server_context(self, *, require_client: bool = True) -> ssl.SSLContext:
        """Return the context for listeners, valid for the life of the process: each handshake uses the newest files.

        `require_client=False` also accepts clients without a certificate; a certificate that is sent is verified. Do
        not modify the context: settings such as ALPN are lost with the first reload.
        """
        return self._required if require_client else self._optional

    def http2_server_context(self) -> ssl.SSLContext:
        """As `server_context` with a required certificate, for gRPC over HTTP/2 (ALPN "h2").

        A certificate that was given to `revoke` passes the handshake, so that its calls can be answered with the
        reason: check it for each call.
        """
        return self._http2

    def client_context(self) -> ssl.SSLContext:
        """Return the context for one client connection; it verifies the peer's name or address."""
        return self._generation.client

    def grpc_server_credentials(self) -> grpc.ServerCredentials:
        """Return credentials for `add_secure_port`: each handshake uses the newest files, open streams continue."""
        held = self._generation

        def newer() -> grpc.ServerCertificateConfiguration | None:
            nonlocal held
            if held is self._generation:
                return None  # gRPC keeps what it has
            held = self._generation
            return held.grpc_server

        return grpc.dynamic_ssl_server_credentials(
            held.grpc_server,
            newer,  # type: ignore[arg-type]  # the stub omits that None means "unchanged"
            require_client_authentication=True,
        )

    def grpc_channel_credentials(self) -> grpc.ChannelCredentials:
        """Return credentials for one client channel; they verify the target's name or address."""
        credential = self._generation.credential
        return grpc.ssl_channel_credentials(credential.ca_pem, credential.key_pem, credential.certificate_pem)

    def _read_again(self) -> _Generation:
        fresh = _read_generation(self._files, self._clock(), self._policy)
        if fresh.credential.identity != self.identity:
            raise TlsError(
                f"{self._files.certificate} names {fresh.credential.identity}, and this process is "
                f"{self.identity}: put its own certificate back, or restart it as the other"
            )
        if fresh.credential.crl_pem is None and self._generation.credential.crl_pem is not None:
            raise TlsError(
                f"{self._files.crl} is gone, and was there before: put it back, or restart to do without revocations"
            )
        return fresh

    def _apply_revocations(self) -> None:
        lists = self._generation.credential.revocations
        self._policy.revoked = self._policy.learned | (lists.serials if lists is not None else frozenset())

    def _checked(
        self, shown: Callable[[], tuple[PeerCertificate, tuple[int, ...]]], now: datetime
    ) -> PeerCertificate:
        try:
            certificate, issuers = shown()
            certificate.check(self.identity.trust_domain, now)
            certificate.check_revocation(self._policy.revoked, issuers)
        except IdentityError as error:
            self._policy.count(error.refusal)
            raise
        return certificate

    # `SSLContext.load_verify_locations` can only add roots, so a context cannot forget one. OpenSSL calls
    # this at each ClientHello, also without a server name, before it looks at certificates: the connection
    # moves to the newest context, its roots included.
    def _serve_current_required(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._generation.required

    def _serve_current_http2(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._generation.http2

    def _serve_current_optional(self, connection: ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._generation.optional


def _read_generation(files: TlsFiles, now: datetime, policy: PeerPolicy) -> _Generation:
    """Read the files until two reads agree, because Python loads keys and CRLs from paths only."""
    for _ in range(_READ_ATTEMPTS):
        credential = Credential.read(files, now)
        try:
            generation = _Generation(
                credential,
                required=server_context(files, credential, policy, ssl.CERT_REQUIRED),
                optional=server_context(files, credential, policy, ssl.CERT_OPTIONAL),
                http2=server_context(
                    files, credential, policy, ssl.CERT_REQUIRED, alpn=("h2",), refuses_learned=False
                ),
                client=client_context(files, credential, policy),
                grpc_server=grpc.ssl_server_certificate_configuration(
                    [(credential.key_pem, credential.certificate_pem)], credential.ca_pem
                ),
            )
        except (ssl.SSLError, OSError) as error:
            if Credential.read(files, now) == credential:
                raise TlsError(f"{files.certificate}: OpenSSL refuses it: {error}") from None
            continue
        if Credential.read(files, now) == credential:
            return generation
    raise TlsError(f"{files.certificate} and {files.key} keep changing: reload when they are written")
