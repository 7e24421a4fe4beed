"""`pki verify`: reports every fault of a certificate."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from pki.ca.authority import Authority
from pki.ca.issued import IssuedIdentity
from pki.ca.signing import pem_of
from pki.checks.inspection import Expectation, inspect
from pki.store.ledger import LedgerEvent, LedgerRecord
from pki.store.state import AuthorityState
from pki.x509.crl import CrlEntry, Reason, RevocationLists
from pki.x509.identity import Role
from pki.x509.name_constraints import NameConstraints
from tests.unit.pki.forgery import HOSTS, authority, identity, refused, signed_leaf

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HONEST = authority(NOW)
GOOD = HONEST.issue("worker-1", Role.WORKER, HOSTS, now=NOW)
REFUSED = refused(HONEST, NOW, Role.WORKER)
ROOTS = Expectation(HONEST.roots)


def _faults(issued: IssuedIdentity, expected: Expectation = ROOTS, now: datetime = NOW) -> str:
    chain = x509.load_pem_x509_certificates(issued.certificate_pem)
    return "\n".join(inspect(chain, expected, now).faults)


def _register(*events: LedgerRecord) -> AuthorityState:
    cas = [LedgerRecord(LedgerEvent.CREATED, NOW, "ann", one) for one in (*HONEST.roots, HONEST.issuer.certificate)]
    return AuthorityState.read([*cas, *events])


ISSUED = LedgerRecord(LedgerEvent.ISSUED, NOW, "ann", GOOD.certificate)


def test_a_good_certificate_has_no_fault() -> None:
    """Whatever it is held against, and the path to the root comes with it."""
    lists = RevocationLists.read(pem_of(HONEST.crl((), number=1, now=NOW)))
    expected = Expectation(HONEST.roots, lists, HOSTS, Role.WORKER, "worker-1", HONEST.scope, _register(ISSUED))
    found = inspect(x509.load_pem_x509_certificates(GOOD.certificate_pem), expected, NOW)
    assert found.faults == ()
    assert found.identity == identity()
    assert found.path == (GOOD.certificate, HONEST.issuer.certificate, HONEST.roots[0])


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("wrong CA", "no trusted root"),
        ("expired", "expired at"),
        ("not yet valid", "is not valid before"),
        ("self-signed", "no trusted root"),
        ("CA used as a leaf", "is a CA certificate, not a leaf"),
        ("leaf used as a CA", "is not a CA"),
        ("foreign DNS name", r"may not certify this leaf: host www\.evil\.example"),
        ("foreign trust domain", r"may not certify the trust domain evil\.example"),
    ],
)
def test_each_forgery_is_named(case: str, reason: str) -> None:
    """What peers refuse is refused here with the reason."""
    assert re.search(reason, _faults(REFUSED[case]))


@pytest.mark.parametrize(
    ("expected", "reason"),
    [
        (replace(ROOTS, hosts=("10.9.9.9",)), "does not cover 10.9.9.9 (it covers 127.0.0.1, ::1, localhost, "),
        (replace(ROOTS, role=Role.ADMIN), "its role is worker, not admin"),
        (replace(ROOTS, name="worker-2"), "it names worker-1, not worker-2"),
        (replace(ROOTS, scope=NameConstraints.of("other.local")), "of the trust domain zkp.local, not other.local"),
        (replace(ROOTS, register=_register()), "the ledger does not know"),
        (
            replace(
                ROOTS,
                register=_register(
                    ISSUED,
                    LedgerRecord(LedgerEvent.REVOKED, NOW, "ann", GOOD.certificate, reason=Reason.KEY_COMPROMISE),
                ),
            ),
            "it was revoked at 2026-06-01 12:00 UTC (key-compromise)",
        ),
    ],
)
def test_each_expectation_is_held(expected: Expectation, reason: str) -> None:
    """Hosts, role, name, scope and the ledger: what does not agree is said."""
    assert reason in _faults(GOOD, expected)


def test_networks_are_enforced_where_peers_cannot() -> None:
    """An address outside the authority's networks, which no name constraint forbids, is found."""
    wide = replace(HONEST, scope=NameConstraints.of("zkp.local", (), [ip_network("10.0.0.0/8")]))
    far = wide.issue("worker-1", Role.WORKER, ["10.1.2.3"], now=NOW)
    assert _faults(far) == ""
    assert "host 10.1.2.3 is outside" in _faults(far, replace(ROOTS, scope=HONEST.scope))


def _lists(*serials: int, by: Authority = HONEST, now: datetime = NOW) -> RevocationLists:
    made = by.crl([CrlEntry(serial, now) for serial in serials], number=1, now=now)
    return RevocationLists.read(pem_of(made))


@pytest.mark.parametrize(
    ("lists", "reason"),
    [
        (_lists(GOOD.certificate.serial_number), "CN=worker-1,OU=worker,O=zkp.local is revoked by the list"),
        (_lists(HONEST.issuer.certificate.serial_number), "CN=issuing CA"),
        (_lists(now=NOW - timedelta(days=40)), "expired at"),
        (_lists(by=authority(NOW)), "lacks CN=issuing CA"),
    ],
)
def test_revocation_lists_are_consulted(lists: RevocationLists, reason: str) -> None:
    """Revoked, a revoked CA, an expired list, and none for the CA."""
    assert reason in _faults(GOOD, replace(ROOTS, lists=lists))


def test_all_faults_are_found_at_once() -> None:
    """A certificate that is wrong in several ways needs one look."""
    faults = _faults(GOOD, replace(ROOTS, hosts=("10.0.0.1", "b.zkp.local"), name="x"), NOW + timedelta(days=31))
    for reason in ("expired", "10.0.0.1", "b.zkp.local", "not x"):
        assert reason in faults
    assert len(faults.splitlines()) == 4


def test_what_no_profile_would_sign_is_found() -> None:
    """A thief of the issuing key who takes liberties with purposes, life or key is seen through."""
    issuer = HONEST.issuer
    client = HONEST.issue("worker-1", Role.CLIENT, now=NOW)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(identity().uri)])
    key = ec.generate_private_key(ec.SECP256R1())
    wrong = signed_leaf(client, key, issuer.key, issuer.certificate.subject, NOW, names=names)
    assert "its purposes (clientAuth) are not those of a worker" in _faults(wrong)
    large = ec.generate_private_key(ec.SECP521R1())
    assert "use P-256 or P-384" in _faults(signed_leaf(GOOD, large, issuer.key, issuer.certificate.subject, NOW))
    nameless = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    nobody = signed_leaf(GOOD, key, issuer.key, issuer.certificate.subject, NOW, names=nameless)
    assert "carries 0 URIs" in _faults(nobody)
