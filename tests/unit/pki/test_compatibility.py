"""Compatibility with other TLS stacks, and the migration from old certificates."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from pki.ca.authority import Authority, create_issuer
from pki.ca.issued import IssuedIdentity
from pki.ca.profiles import PROFILES
from pki.checks import audit
from pki.checks.expiry import Level, Row, expiry_rows
from pki.checks.inspection import Expectation, inspect
from pki.checks.simulation import notes, simulate
from pki.store import rotation
from pki.store.ledger import LedgerEvent, LedgerRecord
from pki.store.store import AuthorityStore, CertificateSpec
from pki.tls.material import TlsMaterial, peer_identity
from pki.x509 import compatibility
from pki.x509.identity import Role
from tests.unit.pki.commands import answer, said
from tests.unit.pki.forgery import (
    HOSTS,
    TRUST_DOMAIN,
    authority,
    old_authority,
    old_leaf,
    refused,
)
from tests.unit.pki.stores import BY, PLAIN
from tests.unit.pki.test_tls import handshake

NOW = datetime.now(UTC).replace(microsecond=0)  # OpenSSL checks certificates against the real clock
BORN = NOW - timedelta(days=60)
HONEST = authority(NOW)
OLD = old_authority(BORN)
NEXT = replace(OLD, issuer=create_issuer(OLD.root, OLD.scope, now=NOW))  # type: ignore[arg-type]  # made with its root
LEAVES = {
    "old issuing CA, old leaf": old_leaf(OLD, "node-1", Role.COORDINATOR, HOSTS, now=NOW),
    "old issuing CA, new leaf": OLD.issue("node-1", Role.COORDINATOR, HOSTS, now=NOW),
    "new issuing CA, old leaf": old_leaf(NEXT, "node-1", Role.COORDINATOR, HOSTS, now=NOW),
    "new issuing CA, new leaf": NEXT.issue("node-1", Role.COORDINATOR, HOSTS, now=NOW),
}


def _chain(issued: IssuedIdentity) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(issued.certificate_pem)


def _verify(issued: IssuedIdentity, by: Authority, *hosts: str) -> None:
    """Ask `cryptography`, an independent implementation: as a client, and for each host as a server."""
    leaf, *issuers = _chain(issued)
    policy = PolicyBuilder().store(Store(list(by.roots))).time(NOW)
    if _dials(issued):
        policy.build_client_verifier().verify(leaf, issuers)
    for host in hosts:
        subject = x509.IPAddress(ip_address(host)) if ":" in host or host[0].isdigit() else x509.DNSName(host)
        policy.build_server_verifier(subject).verify(leaf, issuers)


def _dials(issued: IssuedIdentity) -> bool:
    """Whether the certificate is for dialling."""
    return ExtendedKeyUsageOID.CLIENT_AUTH in PROFILES[issued.identity.role].usages


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("hosts", [HOSTS, ("127.0.0.1",)])
def test_an_independent_verifier_accepts_every_role(role: Role, hosts: tuple[str, ...]) -> None:
    """The strict verifier of `cryptography` accepts every leaf, at each host and at the DNS name of its identity."""
    issued = HONEST.issue("node-1", role, hosts, now=NOW)
    serves = ExtendedKeyUsageOID.SERVER_AUTH in PROFILES[role].usages
    _verify(issued, HONEST, *(*hosts, "node-1.zkp.local") * serves)


@pytest.mark.parametrize("name", ["1", "a" * 63, "1-a--b"])
def test_every_name_makes_a_certificate_that_an_independent_verifier_accepts(name: str) -> None:
    """The shortest and the longest name, and one of digits, are DNS names to others, too."""
    _verify(HONEST.issue(name, Role.CLIENT, now=NOW), HONEST)


def test_an_independent_verifier_enforces_the_name_constraints() -> None:
    """It refuses a DNS name outside of the trust domain, and does not look at the URI: that is left to us."""
    forged = refused(HONEST, NOW, Role.COORDINATOR)
    with pytest.raises(VerificationError, match="name constraint"):
        _verify(forged["foreign DNS name"], HONEST, "127.0.0.1")
    _verify(forged["foreign trust domain"], HONEST, "127.0.0.1")


def test_a_uri_name_constraint_is_what_it_refused() -> None:
    """An old authority is refused for its URI name constraint, and accepted after `pki rotate-issuer`."""
    with pytest.raises(VerificationError, match="name constraint"):
        _verify(LEAVES["old issuing CA, new leaf"], OLD, "127.0.0.1")
    _verify(LEAVES["new issuing CA, new leaf"], OLD, "127.0.0.1")


@pytest.mark.parametrize(("one", "other"), list(itertools.product(LEAVES, LEAVES)))
def test_old_and_new_certificates_accept_each_other(tmp_path: Path, one: str, other: str) -> None:
    """In the middle of the move every pair of members makes a connection, whichever of them was renewed."""
    server, client = (
        TlsMaterial.load(LEAVES[case].write(tmp_path / str(place))) for place, case in enumerate((one, other))
    )
    for end in handshake(server.server_context(), client.client_context()):
        assert peer_identity(end, TRUST_DOMAIN).name == "node-1"


@pytest.mark.parametrize(
    ("case", "noted"),
    [
        ("old issuing CA, old leaf", ("rustls", "node-1.zkp.local")),
        ("old issuing CA, new leaf", ("rustls",)),
        ("new issuing CA, old leaf", ("node-1.zkp.local",)),
        ("new issuing CA, new leaf", ()),
    ],
)
def test_what_others_refuse_is_noted(case: str, noted: tuple[str, ...]) -> None:
    """Each note names what to do; none is a fault, because this network accepts the certificate."""
    found = inspect(_chain(LEAVES[case]), Expectation(OLD.roots), NOW)
    assert found.faults == ()
    assert len(found.notes) == len(noted)
    for words in noted:
        assert [note for note in found.notes if words in note and ("pki renew" in note or "rotate-issuer" in note)]


@pytest.fixture
def store(tmp_path: Path) -> AuthorityStore:
    """An old authority, with one member that has an old leaf."""
    store = AuthorityStore.create(tmp_path / "ca", OLD, passphrase=None, now=BORN, by=BY)
    with store.changing():
        leaf = LEAVES["old issuing CA, old leaf"]
        store.record([LedgerRecord(LedgerEvent.ISSUED, NOW, BY, leaf.certificate)])
    leaf.write(tmp_path / "certs")
    store.sign_lists(now=NOW, by=BY)
    return AuthorityStore.open(tmp_path / "ca")


def _rows(store: AuthorityStore) -> dict[str, Row]:
    return {row.name: row for row in expiry_rows(store, NOW)}


def test_an_old_authority_is_read_and_goes_on(store: AuthorityStore, tmp_path: Path) -> None:
    """Its scope is as it was, it issues and renews, and what it issues has the DNS name."""
    assert store.scope == OLD.scope
    store.issue([CertificateSpec("worker-1", Role.WORKER)], tmp_path / "certs", now=NOW, by=BY)
    assert store.register.newest["worker-1"].record.hosts == ("worker-1.zkp.local",)
    assert store.due(NOW) == ["node-1"]
    store.renew(None, tmp_path / "certs", now=NOW, by=BY)
    assert store.register.newest["node-1"].record.hosts == (*HOSTS, "node-1.zkp.local")
    assert store.due(NOW) == []


def test_what_others_refuse_is_due_and_no_alarm(store: AuthorityStore) -> None:
    """`status` shows CA and leaf as due with the command, and a monitor that calls it stays quiet."""
    rows = _rows(store)
    assert (rows["issuer"].level, rows["issuer"].cure) == (Level.DUE, "pki rotate-issuer")
    assert rows["node-1"].level is Level.DUE
    assert rows["node-1"].cure.startswith("pki renew node-1")
    assert not any(row.is_alarming for row in rows.values())


def test_a_rotation_of_the_issuing_ca_moves_an_authority_over(store: AuthorityStore, tmp_path: Path) -> None:
    """The three usual steps leave an issuing CA without URI constraint, leaves with DNS names, and no note."""
    assert len(list(audit.notes(store, NOW))) == 2
    rotation.prepare_issuer(store, PLAIN, now=NOW, by=BY)
    assert _rows(store)["issuer"].level is Level.OK  # what to do is said by the next step of the rotation
    rotation.switch(store, now=NOW, by=BY)
    [renewed] = store.renew(None, tmp_path / "certs", now=NOW, by=BY)
    rotation.finish_issuer(store, PLAIN, now=NOW, by=BY)
    assert not compatibility.constrains_uris(store.register.signing.certificate)
    assert not compatibility.lacks_dns_name(renewed.certificate)
    assert store.scope == OLD.scope
    assert list(audit.notes(store, NOW)) == []
    assert list(audit.faults(store, NOW)) == []


def test_audit_and_simulate_speak_of_it(
    store: AuthorityStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both print what others refuse as notes, in text and as JSON, and still succeed."""
    orders = [CertificateSpec("node-1", Role.COORDINATOR, ("127.0.0.1",))]
    assert simulate(orders, tmp_path / "certs", NOW) == ([], 0)
    assert len(notes(orders, tmp_path / "certs")) == 2
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(
        "coordinators: {hosts: {node-1: {ansible_host: 127.0.0.1, pki_names: {coordinator: node-1}}}}"
    )
    certs = str(tmp_path / "certs")
    for command in (
        ["audit", "-a", str(store.directory.path)],
        ["simulate", "--at", "+1m", "--inventory", str(inventory), "--certs", certs],
        ["verify", f"{certs}/node-1"],
    ):
        printed = said(capsys, *command)
        assert "note: node-1 lacks the DNS name node-1.zkp.local" in printed
        assert "has a URI name constraint" in printed
        assert len(answer(capsys, *command)["notes"]) == 2
