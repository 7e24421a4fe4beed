"""Chain verification: a valid chain passes, each invalid one is refused with its own reason."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography import x509

from pki.ca.authority import create_issuer, create_root
from pki.ca.issued import IssuedIdentity
from pki.errors import ChainError
from pki.x509.chain import verify_chain
from pki.x509.identity import Role
from tests.unit.pki.forgery import authority, refused

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HONEST = authority(NOW)
REFUSED = refused(HONEST, NOW, Role.COORDINATOR)


def _verify(issued: IssuedIdentity) -> None:
    leaf, *issuers = x509.load_pem_x509_certificates(issued.certificate_pem)
    verify_chain(leaf, issuers, HONEST.roots, NOW)


def test_an_issued_chain_verifies() -> None:
    """What the authority issues leads to its root."""
    _verify(HONEST.issue("coordinator-1", Role.COORDINATOR, ["127.0.0.1"], now=NOW))


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("wrong CA", "no trusted root and no issuing CA signed .* different authorities"),
        ("expired", "CN=node-1.* expired at .* `pki issue --replace`"),
        ("not yet valid", "CN=node-1.* is not valid before .* clock"),
        ("self-signed", "no trusted root and no issuing CA signed"),
        ("CA used as a leaf", "is a CA certificate, not a leaf"),
        ("leaf used as a CA", "CN=node-1.* is not a CA"),
        ("foreign DNS name", r"may not certify this leaf: host www\.evil\.example"),
        ("foreign trust domain", r"may not certify the trust domain evil\.example"),
    ],
)
def test_each_bad_chain_is_refused_for_its_reason(case: str, reason: str) -> None:
    """An operator reads what is wrong, not only that something is."""
    with pytest.raises(ChainError, match=reason):
        _verify(REFUSED[case])


def test_every_forgery_is_covered() -> None:
    """No forgery of the collection passes for a good chain."""
    for issued in REFUSED.values():
        with pytest.raises(ChainError):
            _verify(issued)


def test_a_missing_issuing_ca_is_named() -> None:
    """A certificate file without the issuing CA is refused by naming who would have to be there."""
    good = HONEST.issue("worker-1", Role.WORKER, now=NOW)
    with pytest.raises(ChainError, match="its issuer is CN=issuing CA"):
        verify_chain(good.certificate, [], HONEST.roots, NOW)


def test_an_issuing_ca_below_an_issuing_ca_is_refused() -> None:
    """Path length 0 means that the issuing CA has no CA below it, whoever holds its key."""
    inner = create_issuer(HONEST.issuer, HONEST.scope, now=NOW)
    leaf = replace(HONEST, issuer=inner).issue("worker-1", Role.WORKER, now=NOW).certificate
    with pytest.raises(ChainError, match="at most 0 CAs below it"):
        verify_chain(leaf, [inner.certificate, HONEST.issuer.certificate], HONEST.roots, NOW)


def test_either_of_two_roots_is_enough() -> None:
    """During a change of root, a chain to any root of the bundle is good."""
    other = create_root("zkp.local", now=NOW)
    good = HONEST.issue("worker-1", Role.WORKER, now=NOW)
    leaf, *issuers = x509.load_pem_x509_certificates(good.certificate_pem)
    verify_chain(leaf, issuers, [other.certificate, *HONEST.roots], NOW)
