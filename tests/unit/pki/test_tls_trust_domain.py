"""URIs of other trust domains, which no name constraint refuses: every handshake and checked call does."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pki.ca.issued import IssuedIdentity
from pki.errors import IdentityError, RejectReason
from pki.tls.material import TlsMaterial, peer_certificate
from pki.x509.identity import Role
from tests.unit.pki.forgery import HOSTS, authority, signed_leaf, subject_names
from tests.unit.pki.test_tls import handshake

NOW = datetime.now(UTC)  # OpenSSL checks certificates against the real clock
HONEST = authority(NOW)
GOOD = HONEST.issue("node-1", Role.COORDINATOR, HOSTS, now=NOW)
OURS = "spiffe://zkp.local/coordinator/node-1"
FOREIGN = {
    "foreign": ["spiffe://other.local/coordinator/node-1"],
    "below ours": ["spiffe://sub.zkp.local/coordinator/node-1"],
    "above ours": ["spiffe://local/coordinator/node-1"],
    "ours and a foreign one": [OURS, "spiffe://other.local/coordinator/node-1"],
    "a foreign one and ours": ["spiffe://other.local/coordinator/node-1", OURS],
    "no SPIFFE URI": ["https://zkp.local/coordinator/node-1"],
    "long": [f"spiffe://zkp.local/coordinator/{'n' * 10_000}"],
}


def _stolen(uris: list[str]) -> IssuedIdentity:
    """A leaf signed with a stolen issuing key, within its name constraints."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = HONEST.issuer
    names = subject_names([*HOSTS, "node-1.zkp.local"], *uris)
    return signed_leaf(GOOD, key, issuer.key, issuer.certificate.subject, NOW, names=names)


def _careless(issued: IssuedIdentity, directory: Path, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    files = issued.write(directory)
    context.load_cert_chain(files.certificate, files.key)
    return context


@pytest.fixture
def member(tmp_path: Path) -> TlsMaterial:
    """An honest member."""
    return TlsMaterial.load(HONEST.issue("worker-1", Role.WORKER, HOSTS, now=NOW).write(tmp_path / "member"))


def test_a_stolen_key_is_refused_for_the_uri_only(member: TlsMaterial, tmp_path: Path) -> None:
    """With the URI of our trust domain the certificates below would be accepted."""
    good = _stolen([OURS])
    handshake(member.server_context(), _careless(good, tmp_path / "c", ssl.PROTOCOL_TLS_CLIENT))
    handshake(_careless(good, tmp_path / "s", ssl.PROTOCOL_TLS_SERVER), member.client_context())
    assert not any(member.statistics.refused.values())


@pytest.mark.parametrize("case", FOREIGN)
@pytest.mark.parametrize("require_client", [True, False])
def test_a_client_of_another_trust_domain_is_refused(
    member: TlsMaterial, tmp_path: Path, case: str, require_client: bool
) -> None:
    """The handshake fails, also where no certificate would do, and is counted for its reason."""
    hostile = _careless(_stolen(FOREIGN[case]), tmp_path, ssl.PROTOCOL_TLS_CLIENT)
    with pytest.raises(ssl.SSLCertVerificationError) as caught:
        handshake(member.server_context(require_client=require_client), hostile)
    assert caught.value.verify_message == "identity of another trust domain"
    assert len(str(caught.value)) < 300
    assert member.statistics.refused[RejectReason.WRONG_TRUST_DOMAIN] == 1


@pytest.mark.parametrize("case", FOREIGN)
def test_a_server_of_another_trust_domain_is_not_believed(member: TlsMaterial, tmp_path: Path, case: str) -> None:
    """A dialler ends the handshake although address and chain are good."""
    hostile = _careless(_stolen(FOREIGN[case]), tmp_path, ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        handshake(hostile, member.client_context())
    assert member.statistics.refused[RejectReason.WRONG_TRUST_DOMAIN] == 1


@pytest.mark.parametrize("case", FOREIGN)
def test_a_call_of_another_trust_domain_is_refused(member: TlsMaterial, case: str) -> None:
    """gRPC verifies the chain by itself and knows no URI: each call is held to the trust domain."""
    pem = _stolen(FOREIGN[case]).certificate.public_bytes(serialization.Encoding.PEM)
    with pytest.raises(IdentityError):
        member.check_grpc_peer({"x509_pem_cert": [pem], "ssl_tls_version": [b"TLSv1.3"]}, NOW)


def test_the_trust_domain_holds_after_a_reload(member: TlsMaterial, tmp_path: Path) -> None:
    """A context that was handed out before a reload refuses foreign identities as before."""
    context = member.server_context()
    HONEST.issue("worker-1", Role.WORKER, HOSTS, now=NOW).write(tmp_path / "member", replace=True)
    assert member.reload()
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(context, _careless(_stolen(FOREIGN["foreign"]), tmp_path / "c", ssl.PROTOCOL_TLS_CLIENT))
    listening, _ = handshake(context, _careless(GOOD, tmp_path / "good", ssl.PROTOCOL_TLS_CLIENT))
    assert peer_certificate(listening).identity == GOOD.identity
