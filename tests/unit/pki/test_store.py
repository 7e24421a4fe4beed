"""Authority's directory: files, order of writes, and behaviour on failures."""

import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from pki import files as pki_files
from pki.ca.authority import Authority
from pki.errors import AuthorityError, StoreError, TlsError
from pki.files import TlsFiles
from pki.store.store import AuthorityStore, CertificateSpec
from pki.tls.credential import Credential
from pki.x509.identity import Role

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
WORKER = CertificateSpec("worker-1", Role.WORKER, ("127.0.0.1",))
FILES = ["ca.pem", "certificate.pem", "crl.pem", "key.pem"]
BEGINNING = ["created", "created", "crl", "crl"]  # root and issuing CA, and the first list of each
COORDINATOR = CertificateSpec("coordinator-1", Role.COORDINATOR, ("10.1.2.3", "localhost"))


@pytest.fixture
def store(tmp_path: Path) -> AuthorityStore:
    """A stored authority whose root key has a passphrase."""
    authority = Authority.create("zkp.local", now=NOW, networks=[ip_network("10.0.0.0/8")])
    return AuthorityStore.create(tmp_path / "ca", authority, passphrase=b"a long secret", now=NOW, by="ann@ca")


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_an_authority_is_written_whole_and_closed(store: AuthorityStore, tmp_path: Path) -> None:
    """CA keys are 0400 in a 0700 directory; no draft is left beside it."""
    ca = tmp_path / "ca"
    assert _mode(ca) == 0o700
    assert _mode(ca / "root.key") == _mode(ca / "issuer.key") == 0o400
    assert [path.name for path in tmp_path.iterdir()] == ["ca"]


def test_the_roots_key_is_encrypted(store: AuthorityStore, tmp_path: Path) -> None:
    """The root's key opens with its passphrase and not without."""
    pem = (tmp_path / "ca" / "root.key").read_bytes()
    with pytest.raises(TypeError):
        serialization.load_pem_private_key(pem, None)
    key = serialization.load_pem_private_key(pem, b"a long secret")
    assert key.public_key() == store.authority.roots[0].public_key()


def test_an_authority_is_read_back_without_its_roots_key(store: AuthorityStore, tmp_path: Path) -> None:
    """Daily work needs no root key: the reopened authority issues within the same scope."""
    (tmp_path / "ca" / "root.key").unlink()
    reopened = AuthorityStore.open(tmp_path / "ca")
    assert reopened.authority.scope == store.authority.scope
    assert reopened.authority.root is None
    [issued] = reopened.issue([COORDINATOR], tmp_path / "out", now=NOW, by="ann@ca")
    credential = Credential.read(TlsFiles.in_directory(tmp_path / "out" / "coordinator-1"), NOW)
    assert credential.leaf == issued.certificate


def test_an_identity_is_laid_out_as_daemons_expect(store: AuthorityStore, tmp_path: Path) -> None:
    """OUT/NAME holds certificate.pem, key.pem (0600), ca.pem and crl.pem, and nothing else."""
    store.issue([WORKER], tmp_path / "out", now=NOW, by="ann@ca")
    target = tmp_path / "out" / "worker-1"
    assert sorted(path.name for path in target.iterdir()) == FILES
    assert _mode(target / "key.pem") == 0o600
    assert (target / "certificate.pem").read_bytes().count(b"BEGIN CERTIFICATE") == 2


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(store: AuthorityStore, tmp_path: Path, umask: int) -> None:
    """A careless umask opens no key, a strict one closes no certificate."""
    before = os.umask(umask)
    try:
        store.issue([WORKER], tmp_path / "out", now=NOW, by="ann@ca")
    finally:
        os.umask(before)
    target = tmp_path / "out" / "worker-1"
    assert (_mode(target / "key.pem"), _mode(target / "ca.pem"), _mode(target)) == (0o600, 0o644, 0o755)


def test_everything_that_was_signed_is_recorded(store: AuthorityStore, tmp_path: Path) -> None:
    """Root, issuing CA, their lists and leaves are in the ledger, with who and when."""
    later = NOW + timedelta(hours=1)
    issued = store.issue([WORKER, COORDINATOR], tmp_path / "out", now=later, by="bob@ca")
    records = AuthorityStore.open(tmp_path / "ca").records()
    assert [record.event for record in records] == [*BEGINNING, "issued", "issued"]
    assert [record.certificate for record in records[4:]] == [one.certificate for one in issued]
    assert {(record.by, record.at) for record in records[4:]} == {("bob@ca", later)}


def test_a_key_is_never_overwritten_silently(store: AuthorityStore, tmp_path: Path) -> None:
    """Issuing a name again into the same place is refused, and nothing is signed."""
    store.issue([WORKER], tmp_path, now=NOW, by="ann@ca")
    key = (tmp_path / "worker-1" / "key.pem").read_bytes()
    with pytest.raises(StoreError, match=r"worker-1 already exists .*--replace"):
        store.issue([COORDINATOR, WORKER], tmp_path, now=NOW, by="ann@ca")
    assert (tmp_path / "worker-1" / "key.pem").read_bytes() == key
    assert not (tmp_path / "coordinator-1").exists()
    assert len(store.records()) == len(BEGINNING) + 1


def test_replacing_is_asked_for(store: AuthorityStore, tmp_path: Path) -> None:
    """With `replace` the identity is renewed with a new key, in the same place."""
    [old] = store.issue([WORKER], tmp_path, now=NOW, by="ann@ca")
    [new] = store.issue([WORKER], tmp_path, now=NOW, by="ann@ca", replace=True)
    credential = Credential.read(TlsFiles.in_directory(tmp_path / "worker-1"), NOW)
    assert credential.leaf == new.certificate != old.certificate
    assert sorted(path.name for path in (tmp_path / "worker-1").iterdir()) == FILES


def test_a_name_has_one_role(store: AuthorityStore, tmp_path: Path) -> None:
    """Who maps common names can rely on a name: a worker never gets the name of a coordinator."""
    store.issue([COORDINATOR], tmp_path / "a", now=NOW, by="ann@ca")
    with pytest.raises(StoreError, match="coordinator-1 is a coordinator already"):
        store.issue([CertificateSpec("coordinator-1", Role.WORKER)], tmp_path / "b", now=NOW, by="ann@ca")
    store.issue([CertificateSpec("ops", Role.ADMIN)], tmp_path / "c", now=NOW, by="ann@ca")
    with pytest.raises(StoreError, match="ops is an admin already: give the client another name"):
        store.issue([CertificateSpec("ops", Role.CLIENT)], tmp_path / "d", now=NOW, by="ann@ca")
    with pytest.raises(StoreError, match="worker-1 is duplicated"):
        store.issue([WORKER, WORKER], tmp_path / "b", now=NOW, by="ann@ca")


def test_one_bad_order_stops_all(store: AuthorityStore, tmp_path: Path) -> None:
    """Either all that was ordered is signed and recorded, or nothing."""
    with pytest.raises(AuthorityError, match="outside"):
        store.issue(
            [WORKER, CertificateSpec("w2", Role.WORKER, ("8.8.8.8",))], tmp_path / "out", now=NOW, by="ann@ca"
        )
    assert len(store.records()) == len(BEGINNING)
    assert not (tmp_path / "out").exists()


def test_a_certificate_is_recorded_before_it_leaves(
    store: AuthorityStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When writing it out fails, the record is there and the certificate is not."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pki_files, "_write_new", full)
    with pytest.raises(StoreError, match=r"worker-1: No space left on device"):
        store.issue([WORKER], tmp_path / "out", now=NOW, by="ann@ca")
    assert len(store.records()) == len(BEGINNING) + 1
    assert list((tmp_path / "out").iterdir()) == []


def test_nothing_leaves_that_could_not_be_recorded(
    store: AuthorityStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the record cannot be written, no certificate is."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pki_files, "_write_all", full)
        with pytest.raises(StoreError, match=r"ledger\.jsonl: No space left on device"):
            store.issue([WORKER], tmp_path / "out", now=NOW, by="ann@ca")
    assert not (tmp_path / "out").exists()
    assert len(store.records()) == len(BEGINNING)


def test_half_a_line_at_the_end_is_overwritten(store: AuthorityStore, tmp_path: Path) -> None:
    """A crash in the middle of a record leaves a ledger that opens, and the next record heals it."""
    ledger = tmp_path / "ca" / "ledger.jsonl"
    whole = ledger.read_bytes()
    ledger.write_bytes(whole + b'{"event":"issued","at":"20')
    assert len(store.records()) == len(BEGINNING)
    store.issue([WORKER], tmp_path / "out", now=NOW, by="ann@ca")
    assert ledger.read_bytes().startswith(whole)
    assert [json.loads(line)["event"] for line in ledger.read_bytes().splitlines()] == [*BEGINNING, "issued"]


def test_creating_over_something_is_refused(store: AuthorityStore, tmp_path: Path) -> None:
    """An authority is never replaced by a new one, nor put among other files."""
    with pytest.raises(StoreError, match="already exists"):
        AuthorityStore.create(
            tmp_path / "ca", Authority.create("zkp.local", now=NOW), passphrase=None, now=NOW, by="ann@ca"
        )
    assert AuthorityStore.open(tmp_path / "ca").authority.roots == store.authority.roots


def test_an_empty_directory_may_be_used(tmp_path: Path) -> None:
    """A directory that was prepared for the authority becomes it."""
    (tmp_path / "ca").mkdir()
    authority = Authority.create("zkp.local", now=NOW)
    AuthorityStore.create(tmp_path / "ca", authority, passphrase=None, now=NOW, by="ann@ca")
    assert AuthorityStore.open(tmp_path / "ca").authority.roots == authority.roots


def test_a_second_writer_waits_and_then_says_so(
    store: AuthorityStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commands never write at once; the one that cannot get in says who to wait for."""
    monkeypatch.setattr(pki_files, "_LOCK_TIMEOUT_S", 0.0)
    monkeypatch.setattr(pki_files, "_LOCK_INTERVAL_S", 0.0)
    with _held(tmp_path / "ca" / "lock"), pytest.raises(StoreError, match="held by another pki command"):
        store.issue([WORKER], tmp_path / "out", now=NOW, by="ann@ca")
    assert len(store.records()) == len(BEGINNING)
    store.issue([WORKER], tmp_path / "out", now=NOW, by="ann@ca")


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("issuer.key", b"", r"issuer\.key cannot be opened as a PEM private key: restore a copy"),
        ("issuer.pem", b"", r"issuer\.pem holds no PEM certificate"),
        ("authority.json", b"{}", r"authority\.json is not the settings"),
        ("authority.json", b'{"version": 2, "networks": []}', r"authority\.json is of version 2"),
        ("authority.json", b'{"version": 1, "networks": ["x"]}', r"network 'x'"),
    ],
)
def test_a_damaged_store_names_the_file(
    store: AuthorityStore, tmp_path: Path, file: str, content: bytes, reason: str
) -> None:
    """What cannot be read is named, and not worked around."""
    path = tmp_path / "ca" / file
    path.chmod(0o600)
    path.write_bytes(content)
    with pytest.raises((StoreError, AuthorityError), match=reason):
        AuthorityStore.open(tmp_path / "ca")


def test_a_wrong_or_open_issuing_key_is_refused(store: AuthorityStore, tmp_path: Path) -> None:
    """The issuing key must be the certificate's, and nobody else's to read."""
    key = tmp_path / "ca" / "issuer.key"
    key.chmod(0o644)
    with pytest.raises(TlsError, match="open to others"):
        AuthorityStore.open(tmp_path / "ca")
    other = Authority.create("zkp.local", now=NOW)
    AuthorityStore.create(tmp_path / "other", other, passphrase=None, now=NOW, by="ann@ca")
    key.chmod(0o600)
    key.write_bytes((tmp_path / "other" / "issuer.key").read_bytes())
    with pytest.raises(StoreError, match="is not the key of"):
        AuthorityStore.open(tmp_path / "ca")


def test_a_directory_without_an_authority_says_how_to_make_one(tmp_path: Path) -> None:
    """The wrong path leads to the right command."""
    with pytest.raises(StoreError, match="holds no authority: make one with `pki init"):
        AuthorityStore.open(tmp_path)
