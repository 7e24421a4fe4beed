"""Simulation of a deployment: which links break, when, and at which member."""

import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from pki.ca.profiles import ISSUER_LIFE
from pki.ca.specification import CertificateSpec
from pki.checks.simulation import DIALS, Cause, simulate
from pki.store import rotation
from pki.store.store import AuthorityStore
from pki.x509.crl import Reason
from pki.x509.identity import Role
from tests.unit.pki.stores import BY, NOW, PLAIN, new_store

ORDERS = [
    CertificateSpec("coordinator-1", Role.COORDINATOR, ("127.0.0.1",)),
    CertificateSpec("coordinator-2", Role.COORDINATOR, ("127.0.0.2", "localhost")),
    CertificateSpec("postgres-1", Role.POSTGRES, ("127.0.0.1",)),
    CertificateSpec("gateway-1", Role.GATEWAY, ("127.0.0.1",)),
    CertificateSpec("worker-1", Role.WORKER),
]
# coordinators dial each other (1 + 2) and postgres (2); gateway and worker dial each address of coordinators (3 + 3)
LINKS = 11


@pytest.fixture
def store(tmp_path: Path) -> AuthorityStore:
    """A stored authority with all of them deployed in `certs`."""
    store = new_store(tmp_path / "ca")
    store.issue(ORDERS, tmp_path / "certs", now=NOW, by=BY)
    return store


def _broken(certs: Path, at: datetime, orders: list[CertificateSpec] = ORDERS) -> dict[tuple[str, str], int]:
    """(cause, member) → how many links it breaks."""
    breaks, links = simulate(orders, certs, at)
    assert links == LINKS
    return {(one.fault.cause, one.fault.member): len(one.links) for one in breaks}


def test_a_good_deployment_holds(store: AuthorityStore, tmp_path: Path) -> None:
    """Nothing breaks today, nor while everything is valid."""
    assert _broken(tmp_path / "certs", NOW) == {}
    assert _broken(tmp_path / "certs", NOW + timedelta(days=29)) == {}


def test_every_expired_leaf_is_named_with_its_links(store: AuthorityStore, tmp_path: Path) -> None:
    """A member that nobody renews takes its own links with it, and no others."""
    later, others = NOW + timedelta(days=20), [order.name for order in ORDERS if order.name != "worker-1"]
    store.renew(others, tmp_path / "certs", now=later, by=BY)
    store.write_bundle(tmp_path / "certs" / "worker-1", now=later, by=BY)
    assert _broken(tmp_path / "certs", NOW + timedelta(days=31)) == {(Cause.LEAF, "worker-1"): 3}


def test_an_expiring_ca_and_list_are_told_from_leaves(store: AuthorityStore, tmp_path: Path) -> None:
    """When only the lists are old, the lists are blamed; when the issuing CA ends, the chain is."""
    later = NOW + timedelta(days=20)
    for order in ORDERS:
        (tmp_path / order.name).mkdir()
        shutil.copy(tmp_path / "certs" / order.name / "crl.pem", tmp_path / order.name)
    store.renew([order.name for order in ORDERS], tmp_path / "certs", now=later, by=BY)
    for order in ORDERS:
        shutil.copy(tmp_path / order.name / "crl.pem", tmp_path / "certs" / order.name)
    broken = _broken(tmp_path / "certs", NOW + timedelta(days=35))
    assert {cause for cause, _ in broken} == {Cause.CRL}
    assert {member for _, member in broken} == {order.name for order in ORDERS}
    end = NOW + ISSUER_LIFE
    store.renew([order.name for order in ORDERS], tmp_path / "certs", now=end - timedelta(days=1), by=BY)
    causes = {cause for cause, _ in _broken(tmp_path / "certs", end + timedelta(minutes=1))}
    assert causes == {Cause.LEAF}  # cut to the issuing CA's end


def test_an_address_that_the_certificate_lacks_breaks_its_links(store: AuthorityStore, tmp_path: Path) -> None:
    """A host that moved is found before anybody dials it."""
    moved = [CertificateSpec("coordinator-1", Role.COORDINATOR, ("127.0.0.9",)), *ORDERS[1:]]
    [one] = simulate(moved, tmp_path / "certs", NOW)[0]
    assert one.fault.cause is Cause.SAN
    assert "does not cover 127.0.0.9: issue it again with --host 127.0.0.9" in one.fault.reason
    assert [str(link) for link in one.links] == [
        f"{dialler} → coordinator-1 (127.0.0.9)" for dialler in ("coordinator-2", "gateway-1", "worker-1")
    ]


def _missing(certs: Path) -> None:
    shutil.rmtree(certs / "worker-1")


def _another(certs: Path) -> None:
    shutil.copy(certs / "gateway-1" / "certificate.pem", certs / "worker-1")


def _no_list(certs: Path) -> None:
    (certs / "worker-1" / "crl.pem").write_bytes(b"x")


@pytest.mark.parametrize(
    ("breakage", "cause"), [(_missing, Cause.FILES), (_another, Cause.IDENTITY), (_no_list, Cause.FILES)]
)
def test_broken_files_break_their_members_links(
    store: AuthorityStore, tmp_path: Path, breakage: Callable[[Path], None], cause: Cause
) -> None:
    """What is missing, another's, or unreadable breaks the links of that member alone."""
    breakage(tmp_path / "certs")
    assert _broken(tmp_path / "certs", NOW) == {(cause, "worker-1"): 3}


def test_a_revoked_member_is_found_by_who_has_the_list(store: AuthorityStore, tmp_path: Path) -> None:
    """Only where the new list lies is the revoked one refused: half a distribution shows."""
    store.revoke(store.find("worker-1", NOW), Reason.UNSPECIFIED, now=NOW, by=BY)
    store.write_bundle(tmp_path / "certs" / "coordinator-1", now=NOW, by=BY)
    assert _broken(tmp_path / "certs", NOW) == {(Cause.CRL, "worker-1"): 1}


def test_a_server_that_may_not_serve_is_found(store: AuthorityStore, tmp_path: Path) -> None:
    """A client's certificate in the place of a gateway's is for dialling only."""
    orders = [CertificateSpec("ann", Role.CLIENT), CertificateSpec("gateway-1", Role.GATEWAY, ("127.0.0.1",))]
    store.issue(orders[:1], tmp_path / "certs", now=NOW, by=BY)
    shutil.copy(tmp_path / "certs" / "ann" / "certificate.pem", tmp_path / "certs" / "gateway-1")
    breaks, links = simulate(orders, tmp_path / "certs", NOW)
    assert links == 1
    assert {one.fault.cause for one in breaks} == {Cause.IDENTITY, Cause.SAN, Cause.PURPOSE}


def test_a_change_of_root_can_be_gated(store: AuthorityStore, tmp_path: Path) -> None:
    """A new leaf among peers that lack the new root breaks links; after the bundle reached all, none."""
    rotation.prepare_root(store, None, now=NOW, by=BY)
    rotation.switch(store, now=NOW, by=BY)
    store.renew(["worker-1"], tmp_path / "certs", now=NOW, by=BY)
    broken = _broken(tmp_path / "certs", NOW)
    assert broken == {(Cause.CHAIN, "coordinator-1"): 1, (Cause.CHAIN, "coordinator-2"): 2}
    for order in ORDERS:
        store.write_bundle(tmp_path / "certs" / order.name, now=NOW, by=BY)
    assert _broken(tmp_path / "certs", NOW) == {}


def test_a_change_of_issuer_without_its_first_step_is_found(store: AuthorityStore, tmp_path: Path) -> None:
    """Peers that have no list of the new issuing CA would refuse its leaves, and are named."""
    rotation.prepare_issuer(store, PLAIN, now=NOW, by=BY)
    rotation.switch(store, now=NOW, by=BY)
    store.renew(["worker-1"], tmp_path / "certs", now=NOW, by=BY)
    broken = _broken(tmp_path / "certs", NOW)
    assert broken == {(Cause.CRL, "coordinator-1"): 1, (Cause.CRL, "coordinator-2"): 2}


def test_who_dials_whom_is_stated_for_every_role() -> None:
    """A role that dials nobody is one whose certificate is not for dialling."""
    assert set(Role) - set(DIALS) == {Role.POSTGRES}
