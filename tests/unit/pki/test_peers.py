"""Identity of a peer from the auth context of gRPC."""

from datetime import UTC, datetime, timedelta

import pytest

from pki.ca.authority import Authority
from pki.tls import peers
from pki.tls.peers import grpc_peer_certificate, grpc_peer_identity
from pki.x509.identity import IdentityError, Role
from tests.unit.pki.forgery import TRUST_DOMAIN, identity

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
AUTHORITY = Authority.create(TRUST_DOMAIN, now=NOW)
LEAF = AUTHORITY.issue("worker-1", Role.WORKER, now=NOW)


def _context(pem: bytes = LEAF.certificate_pem, version: bytes = b"TLSv1.3") -> dict[str, list[bytes]]:
    return {"x509_pem_cert": [pem], "ssl_tls_version": [version], "transport_security_type": [b"ssl"]}


def test_a_call_speaks_for_the_certificate_of_its_connection() -> None:
    """The identity and serial number of a call are those of the verified certificate."""
    assert grpc_peer_identity(_context(), TRUST_DOMAIN, NOW) == identity()
    certificate = grpc_peer_certificate(_context(), TRUST_DOMAIN, NOW)
    assert certificate.serial == LEAF.certificate.serial_number


def test_expiry_acts_on_an_open_connection() -> None:
    """The same connection is good until its certificate ends, and not a second longer."""
    end = LEAF.certificate.not_valid_after_utc
    assert grpc_peer_identity(_context(), TRUST_DOMAIN, end - timedelta(seconds=1)) == identity()
    with pytest.raises(IdentityError, match="expired at"):
        grpc_peer_identity(_context(), TRUST_DOMAIN, end)


def test_a_certificate_of_the_future_is_refused() -> None:
    """A clock far behind is told apart from an expired certificate."""
    with pytest.raises(IdentityError, match="not valid before"):
        grpc_peer_identity(_context(), TRUST_DOMAIN, NOW - timedelta(hours=1))


def test_another_trust_domain_is_refused() -> None:
    """A certificate of another network has no say in this one."""
    with pytest.raises(IdentityError, match=r"not of the trust domain other\.local"):
        grpc_peer_identity(_context(), "other.local", NOW)


@pytest.mark.parametrize(
    ("context", "reason"),
    [
        ({}, "no client certificate"),
        ({"x509_pem_cert": [], "ssl_tls_version": [b"TLSv1.3"]}, "no client certificate"),
        ({"x509_pem_cert": [LEAF.certificate_pem]}, "use TLS 1.3"),
        (_context(version=b"TLSv1.2"), "use TLS 1.3"),
        (_context(pem=b"nonsense"), "cannot be read"),
        (_context(pem=LEAF.ca_pem), "no subject alternative name"),
    ],
)
def test_a_call_without_proof_of_identity_is_refused(context: dict[str, list[bytes]], reason: str) -> None:
    """No certificate, an older TLS, rubbish and a CA are each refused with their reason."""
    with pytest.raises(IdentityError, match=reason):
        grpc_peer_identity(context, TRUST_DOMAIN, NOW)


def test_what_is_remembered_is_bounded() -> None:
    """A flood of certificates cannot fill the memory."""
    assert peers._parse.cache_parameters()["maxsize"] == 4096


def test_a_certificate_is_parsed_once() -> None:
    """Asking again about the same connection costs a look-up."""
    peers._parse.cache_clear()
    for _ in range(5):
        grpc_peer_identity(_context(), TRUST_DOMAIN, NOW)
    assert peers._parse.cache_info().misses == 1
