"""Renewal: which members are due, what stays unchanged, and keys that only the host can replace."""

import os
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from pki.ca.authority import Authority
from pki.ca.csr import SigningRequest, create_request
from pki.ca.issued import IssuedCertificate, IssuedIdentity
from pki.ca.profiles import LEAF_LIFE, renewal_at
from pki.errors import StoreError
from pki.files import TlsFiles
from pki.store.ledger import LedgerEvent
from pki.store.state import CertificateStatus
from pki.store.store import AuthorityStore, CertificateSpec
from pki.tls.credential import Credential
from pki.x509.crl import Reason
from pki.x509.identity import Role
from tests.unit.pki.stores import BY, COORDINATOR, HOSTS, NOW, OTHER, WORKER, new_store


@pytest.fixture
def store(tmp_path: Path) -> AuthorityStore:
    """A stored authority."""
    return new_store(tmp_path / "ca")


def test_a_renewed_member_is_who_it_was(store: AuthorityStore, tmp_path: Path) -> None:
    """Role, hosts and span stay; key, serial number and dates are new; the ledger says renewed."""
    week = CertificateSpec("coordinator-1", Role.COORDINATOR, HOSTS, timedelta(days=7))
    [old] = store.issue([week], tmp_path, now=NOW, by=BY)
    later = NOW + timedelta(days=5)
    [new] = store.renew(["coordinator-1"], tmp_path, now=later, by=BY)
    assert isinstance(new, IssuedIdentity)
    assert new.identity == old.identity
    assert new.certificate.serial_number != old.certificate.serial_number
    assert new.certificate.public_key() != old.certificate.public_key()
    assert new.certificate.not_valid_after_utc == later + timedelta(days=7)
    assert store.register.newest["coordinator-1"].record.event is LedgerEvent.RENEWED
    assert store.register.newest["coordinator-1"].record.hosts == (*HOSTS, "coordinator-1.zkp.local")
    assert Credential.read(TlsFiles.in_directory(tmp_path / "coordinator-1"), later).leaf == new.certificate


def test_a_span_that_the_issuing_ca_cut_short_is_forgotten(store: AuthorityStore, tmp_path: Path) -> None:
    """Near the issuing CA's end a leaf ends with it; the next one is not short for that."""
    end = store.register.signing.certificate.not_valid_after_utc
    [short] = store.issue([WORKER], tmp_path, now=end - timedelta(days=2), by=BY)
    assert short.certificate.not_valid_after_utc == end
    [again] = store.renew(["worker-1"], tmp_path, now=NOW, by=BY)
    assert again.certificate.not_valid_after_utc == NOW + LEAF_LIFE


def test_a_key_can_be_kept(store: AuthorityStore, tmp_path: Path) -> None:
    """With the same key only the certificate changes."""
    [old] = store.issue([WORKER], tmp_path, now=NOW, by=BY)
    [new] = store.renew(["worker-1"], tmp_path, now=NOW, by=BY, keep_key=True)
    assert isinstance(new, IssuedCertificate)
    assert new.certificate.public_key() == old.certificate.public_key()
    assert (tmp_path / "worker-1" / "key.pem").read_bytes() == old.key_pem
    Credential.read(TlsFiles.in_directory(tmp_path / "worker-1"), NOW)


def test_a_hosts_own_key_is_certified_again(store: AuthorityStore, tmp_path: Path) -> None:
    """Renewing the holder of a request needs neither its key nor a new request, however often."""
    asked = create_request("worker-1", HOSTS)
    store.sign(SigningRequest.read(asked.request_pem), WORKER, tmp_path, now=NOW, by=BY)
    for days in (20, 40):
        [new] = store.renew(["worker-1"], tmp_path, now=NOW + timedelta(days=days), by=BY)
        held = serialization.load_pem_private_key(asked.key_pem, None).public_key()
        assert new.certificate.public_key() == held
        assert not (tmp_path / "worker-1" / "key.pem").exists()


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.integers(1, int(LEAF_LIFE.total_seconds())))
def test_renewal_comes_at_two_thirds_and_not_at_once(seconds: int) -> None:
    """Every leaf is due between three fifths and two thirds of its life."""
    authority = Authority.create("zkp.local", now=NOW)
    life = timedelta(seconds=seconds)
    leaf = authority.issue("w", Role.WORKER, now=NOW, life=life).certificate
    span = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert leaf.not_valid_before_utc + span * 0.6 <= renewal_at(leaf) <= leaf.not_valid_before_utc + span * 2 / 3


def test_renewals_are_spread(store: AuthorityStore, tmp_path: Path) -> None:
    """Leaves of one minute are not due in one minute."""
    orders = [CertificateSpec(f"w-{number}", Role.WORKER) for number in range(8)]
    issued = store.issue(orders, tmp_path, now=NOW, by=BY)
    moments = sorted(renewal_at(one.certificate) for one in issued)
    assert moments[-1] - moments[0] > timedelta(minutes=10)


def test_who_is_due(store: AuthorityStore, tmp_path: Path) -> None:
    """Past two thirds, and expired; neither the fresh nor the revoked nor the renewed."""
    store.issue([WORKER, OTHER, CertificateSpec("gone", Role.WORKER)], tmp_path, now=NOW, by=BY)
    assert store.due(NOW + timedelta(days=17)) == []
    late = NOW + timedelta(days=21)
    store.revoke(store.find("gone", late), Reason.UNSPECIFIED, now=late, by=BY)
    assert store.due(late) == ["worker-1", "worker-2"]
    store.renew(["worker-1"], tmp_path, now=late, by=BY)
    assert store.due(late) == ["worker-2"]
    assert store.due(NOW + timedelta(days=35)) == ["worker-2"]
    [renewed] = store.renew(None, tmp_path, now=NOW + timedelta(days=35), by=BY)
    assert renewed.identity.name == "worker-2"
    assert store.renew(None, tmp_path, now=NOW + timedelta(days=35), by=BY) == []


def test_a_renewal_supersedes(store: AuthorityStore, tmp_path: Path) -> None:
    """The older certificate of a name is told apart from the newest, and can be found to be revoked."""
    store.issue([WORKER], tmp_path, now=NOW, by=BY)
    store.renew(["worker-1"], tmp_path, now=NOW, by=BY)
    standings = [store.register.status_of(leaf, NOW) for leaf in store.register.leaves]
    assert standings == [CertificateStatus.SUPERSEDED, CertificateStatus.VALID]
    assert store.register.superseded(NOW) == store.register.leaves[:1]
    assert store.register.superseded(NOW + LEAF_LIFE) == ()


@pytest.mark.parametrize("name", ["nobody", "gone"])
def test_who_cannot_be_renewed(store: AuthorityStore, tmp_path: Path, name: str) -> None:
    """Neither the unknown nor the revoked are renewed, and then nobody is."""
    store.issue([WORKER, CertificateSpec("gone", Role.WORKER)], tmp_path, now=NOW, by=BY)
    store.revoke(store.find("gone", NOW), Reason.CESSATION_OF_OPERATION, now=NOW, by=BY)
    before = len(store.records())
    with pytest.raises(StoreError, match=r"`pki list`|`pki issue gone --replace`"):
        store.renew(["worker-1", name], tmp_path, now=NOW, by=BY)
    assert len(store.records()) == before


def test_a_full_disk_changes_no_pair(store: AuthorityStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When one of the new files cannot be written, key and certificate are still the old pair."""
    [old] = store.issue([COORDINATOR], tmp_path, now=NOW, by=BY)
    real, refused = os.write, []

    def write(descriptor: int, data: bytes) -> int:
        if b"PRIVATE KEY" in bytes(data):
            refused.append(descriptor)
            raise OSError(28, "No space left on device")
        count: int = real(descriptor, data)
        return count

    monkeypatch.setattr("pki.files.os.write", write)
    with pytest.raises(StoreError, match=r"key\.pem: No space left on device; .* recorded: renewed coordinator-1; "):
        store.renew(["coordinator-1"], tmp_path, now=NOW, by=BY)
    assert refused
    assert Credential.read(TlsFiles.in_directory(tmp_path / "coordinator-1"), NOW).leaf == old.certificate
    names = sorted(path.name for path in (tmp_path / "coordinator-1").iterdir())
    assert names == ["ca.pem", "certificate.pem", "crl.pem", "key.pem"]

    monkeypatch.undo()
    [renewed] = store.renew(None, tmp_path, now=NOW, by=BY)
    assert Credential.read(TlsFiles.in_directory(tmp_path / "coordinator-1"), NOW).leaf == renewed.certificate
    assert store.renew(None, tmp_path, now=NOW, by=BY) == []
