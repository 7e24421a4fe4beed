"""CA rotation: which chains are accepted at each step, and recovery from crashes and lost keys."""

import contextlib
from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest
from cryptography import x509

from pki import files
from pki.ca.profiles import ISSUER_LIFE, ROOT_LIFE
from pki.checks import audit
from pki.checks.expiry import next_step
from pki.errors import AuthorityError, StoreError, TlsError
from pki.files import TlsFiles
from pki.store import rotation
from pki.store.directory import AuthorityDirectory
from pki.store.ledger import LedgerEvent
from pki.store.rotation import RootKey
from pki.store.store import AuthorityStore, CertificateSpec
from pki.tls.credential import Credential
from pki.x509.crl import Reason, RevocationLists
from pki.x509.identity import Role
from tests.unit.pki.stores import BY, NOW, OTHER, PLAIN, WORKER, never, new_store, trusts


@pytest.fixture
def store(tmp_path: Path) -> AuthorityStore:
    """A stored authority with worker-1 in `old`."""
    store = new_store(tmp_path / "ca")
    store.issue([WORKER], tmp_path / "old", now=NOW, by=BY)
    return store


def _loads(directory: Path) -> None:
    """A daemon would start with these files."""
    Credential.read(TlsFiles.in_directory(directory), NOW)


def _lists(directory: Path) -> RevocationLists:
    return RevocationLists.read((directory / "crl.pem").read_bytes())


def _is_covered(leaf: x509.Certificate, directory: Path) -> bool:
    """Whether OpenSSL finds the list of a leaf's issuing CA."""
    return any(one.issuer == leaf.issuer for one in _lists(directory).lists)


def test_an_issuing_ca_changes_without_a_gap(store: AuthorityStore, tmp_path: Path) -> None:
    """At each step what was handed out before and after get on; at the end the old leaf is refused."""
    old = TlsFiles.in_directory(tmp_path / "old" / "worker-1")
    rotation.prepare_issuer(store, PLAIN, now=NOW, by=BY)
    [still] = store.issue([CertificateSpec("w", Role.WORKER)], tmp_path / "still", now=NOW, by=BY)
    assert still.certificate.issuer == Credential.read(old, NOW).leaf.issuer
    store.write_bundle(tmp_path / "dist", now=NOW, by=BY)
    store.revoke(store.find("w", NOW), Reason.UNSPECIFIED, now=NOW, by=BY)

    rotation.switch(store, now=NOW, by=BY)
    [new] = store.renew(["worker-1"], tmp_path / "new", now=NOW, by=BY)
    fresh = TlsFiles.in_directory(tmp_path / "new" / "worker-1")
    assert new.certificate.issuer != still.certificate.issuer
    assert trusts(fresh, tmp_path / "dist" / "ca.pem")  # who got the bundle of the first step accepts the new leaf
    assert _is_covered(new.certificate, tmp_path / "dist")
    assert trusts(old, fresh.ca)
    assert _is_covered(still.certificate, tmp_path / "new" / "worker-1")

    [retired] = rotation.finish_issuer(store, PLAIN, now=NOW, by=BY)
    store.write_bundle(tmp_path / "end", now=NOW, by=BY)
    revoked = _lists(tmp_path / "end").serials
    assert {Credential.read(old, NOW).leaf.serial_number, retired.serial} <= revoked
    assert new.certificate.serial_number not in revoked
    assert not store.directory.key_path(retired).exists()
    _loads(tmp_path / "new" / "worker-1")
    store.issue([OTHER], tmp_path / "new", now=NOW, by=BY)
    _loads(tmp_path / "new" / "worker-2")


def test_a_root_changes_without_a_gap(store: AuthorityStore, tmp_path: Path) -> None:
    """Both roots are trusted from the first step to the last; then the old one and all below it are strangers."""
    old = TlsFiles.in_directory(tmp_path / "old" / "worker-1")
    rotation.prepare_root(store, b"another secret", now=NOW, by=BY)
    store.write_bundle(tmp_path / "dist", now=NOW, by=BY)
    both = tmp_path / "dist" / "ca.pem"
    assert both.read_bytes().count(b"BEGIN CERTIFICATE") == 2
    rotation.switch(store, now=NOW, by=BY)
    [new] = store.renew(["worker-1"], tmp_path / "new", now=NOW, by=BY)
    fresh = TlsFiles.in_directory(tmp_path / "new" / "worker-1")
    assert not trusts(fresh, old.ca)
    assert trusts(fresh, both)
    assert trusts(old, fresh.ca)
    assert _is_covered(new.certificate, tmp_path / "dist")
    rotation.finish_root(store, now=NOW, by=BY)
    store.write_bundle(tmp_path / "end", now=NOW, by=BY)
    assert trusts(fresh, tmp_path / "end" / "ca.pem")
    assert not trusts(old, tmp_path / "end" / "ca.pem")
    assert len(_lists(tmp_path / "end").lists) == 2  # of the new root and issuing CA
    AuthorityStore.open(store.directory.path).issue([OTHER], tmp_path / "new", now=NOW, by=BY)
    _loads(tmp_path / "new" / "worker-2")


def test_everybody_of_the_old_ca_is_due_after_the_switch(store: AuthorityStore, tmp_path: Path) -> None:
    """`pki renew --due` finds whom the switch concerns, and finishing waits for them."""
    rotation.prepare_issuer(store, PLAIN, now=NOW, by=BY)
    assert store.due(NOW) == []
    rotation.switch(store, now=NOW, by=BY)
    assert store.due(NOW) == ["worker-1"]
    with pytest.raises(StoreError, match=r"worker-1 would be cut off: .*`pki renew --due`, or give --force"):
        rotation.finish_issuer(store, PLAIN, now=NOW, by=BY)
    store.renew(store.due(NOW), tmp_path / "new", now=NOW, by=BY)
    rotation.finish_issuer(store, PLAIN, now=NOW, by=BY)
    assert next_step(store.register) is None


def test_haste_is_possible_when_it_is_said(store: AuthorityStore) -> None:
    """When the issuing key was stolen, all three steps can follow at once, and cut everybody off."""
    serial = store.register.leaves[0].serial
    rotation.prepare_root(store, None, now=NOW, by=BY)
    rotation.switch(store, now=NOW, by=BY)
    with pytest.raises(StoreError, match="would be cut off"):
        rotation.finish_root(store, now=NOW, by=BY)
    rotation.finish_root(store, now=NOW, by=BY, force=True)
    assert serial in store.register.revocations


def test_the_steps_have_one_order(store: AuthorityStore, tmp_path: Path) -> None:
    """Each step out of turn is refused, and says which one comes next."""
    with pytest.raises(StoreError, match=r"no issuing CA is prepared: begin with `pki rotate-issuer`"):
        rotation.switch(store, now=NOW, by=BY)
    with pytest.raises(StoreError, match="no rotation is under way"):
        rotation.finish_issuer(store, PLAIN, now=NOW, by=BY)
    with pytest.raises(StoreError, match="no rotation is under way"):
        rotation.finish_root(store, now=NOW, by=BY)
    rotation.prepare_issuer(store, PLAIN, now=NOW, by=BY)
    with pytest.raises(StoreError, match=r"issuer-2 is already prepared: .*--switch"):
        rotation.prepare_issuer(store, PLAIN, now=NOW, by=BY)
    with pytest.raises(StoreError, match=r"issuer-2 is already prepared: .*--switch"):
        rotation.prepare_root(store, None, now=NOW, by=BY)
    with pytest.raises(StoreError, match="issuer still signs: --switch"):
        rotation.finish_issuer(store, PLAIN, now=NOW, by=BY)
    rotation.switch(store, now=NOW, by=BY)
    with pytest.raises(StoreError, match=r"issuer is still accepted: .*--finish"):
        rotation.prepare_issuer(store, PLAIN, now=NOW, by=BY)


def test_a_change_of_root_is_finished_as_one(store: AuthorityStore, tmp_path: Path) -> None:
    """Under a new root the old issuing CA is not retired alone, nor the old root while it still signs."""
    rotation.prepare_root(store, None, now=NOW, by=BY)
    with pytest.raises(StoreError, match="--switch and renew everybody before --finish"):
        rotation.finish_root(store, now=NOW, by=BY)
    rotation.switch(store, now=NOW, by=BY)
    with pytest.raises(StoreError, match=r"finish both with `pki rotate-root --finish`"):
        rotation.finish_issuer(store, PLAIN, now=NOW, by=BY, force=True)


def test_what_comes_next_is_said(store: AuthorityStore) -> None:
    """A rotation under way is never forgotten: status names its next step."""
    assert next_step(store.register) is None
    rotation.prepare_root(store, None, now=NOW, by=BY)
    assert "`pki rotate-root --switch`" in str(next_step(store.register))
    rotation.switch(store, now=NOW, by=BY)
    assert "`pki rotate-root --finish`" in str(next_step(store.register))


def test_the_roots_key_may_be_anywhere_else(tmp_path: Path) -> None:
    """Daily work does without it; the steps that need it say so, and take it from where it is."""
    store = new_store(tmp_path / "ca", b"a long secret")
    safe = tmp_path / "safe.key"
    (tmp_path / "ca" / "root.key").rename(safe)
    with pytest.raises(StoreError, match=r"root\.key is missing, and only the root's key .*--root-key"):
        rotation.prepare_issuer(store, PLAIN, now=NOW, by=BY)
    with pytest.raises(StoreError, match=r"safe\.key cannot be opened .*passphrase"):
        rotation.prepare_issuer(store, RootKey(lambda: b"wrong", safe), now=NOW, by=BY)
    with pytest.raises(StoreError, match=r"issuer\.key is not the key of CN=root CA"):
        rotation.prepare_issuer(store, RootKey(never, tmp_path / "ca" / "issuer.key"), now=NOW, by=BY)
    assert len(store.records()) == 4
    key = RootKey(lambda: b"a long secret", safe)
    rotation.prepare_issuer(store, key, now=NOW, by=BY)
    rotation.switch(store, now=NOW, by=BY)
    with pytest.raises(StoreError, match="--root-key"):
        rotation.finish_issuer(store, PLAIN, now=NOW, by=BY)
    rotation.finish_issuer(store, key, now=NOW, by=BY)
    assert sorted(path.name for path in (tmp_path / "ca").glob("*.key")) == ["issuer-2.key"]


def test_a_root_key_open_to_others_is_refused(store: AuthorityStore) -> None:
    """A copy with the wrong mode is not used."""
    store.directory.key_path(store.register.roots[0]).chmod(0o644)
    with pytest.raises(TlsError, match="open to others"):
        rotation.prepare_issuer(store, PLAIN, now=NOW, by=BY)


def test_a_rotation_can_widen_the_scope(store: AuthorityStore, tmp_path: Path) -> None:
    """A new domain and network are permitted by the next issuing CA, and what was permitted stays so."""
    far = CertificateSpec("far", Role.COORDINATOR, ("10.1.2.3", "n.corp.example", "n.zkp.local"))
    with pytest.raises(AuthorityError, match="outside"):
        store.issue([far], tmp_path, now=NOW, by=BY)
    networks = [ip_network("10.0.0.0/8")]
    rotation.prepare_issuer(store, PLAIN, now=NOW, by=BY, domains=["corp.example"], networks=networks)
    rotation.switch(store, now=NOW, by=BY)
    AuthorityStore.open(store.directory.path).issue([far], tmp_path, now=NOW, by=BY)
    _loads(tmp_path / "far")


def test_a_lost_issuing_key_is_replaced(store: AuthorityStore, tmp_path: Path) -> None:
    """Without its key nothing is issued, and the root's key is enough to go on with another."""
    (store.directory.path / "issuer.key").unlink()
    with pytest.raises(StoreError, match=r"issuer\.key is missing: .*`pki rotate-issuer`"):
        AuthorityStore.open(store.directory.path)
    crippled = AuthorityStore(store.directory)
    rotation.prepare_issuer(crippled, PLAIN, now=NOW, by=BY)
    rotation.switch(crippled, now=NOW, by=BY)
    crippled.renew(["worker-1"], tmp_path / "new", now=NOW, by=BY)
    [lost] = rotation.finish_issuer(crippled, PLAIN, now=NOW, by=BY)
    _loads(tmp_path / "new" / "worker-1")
    crippled.write_bundle(tmp_path / "end", now=NOW, by=BY)
    assert lost.serial in _lists(tmp_path / "end").serials


@pytest.mark.parametrize("later", [ISSUER_LIFE + timedelta(days=1), ROOT_LIFE + timedelta(days=1)])
def test_even_after_everything_has_expired_one_can_go_on(
    store: AuthorityStore, tmp_path: Path, later: timedelta
) -> None:
    """An authority that was forgotten for years is brought back by its rotation."""
    then = NOW + later
    with pytest.raises(AuthorityError, match=r"`pki rotate-issuer` or `pki rotate-root`"):
        store.renew(["worker-1"], tmp_path / "new", now=then, by=BY)
    rotation.prepare_root(store, None, now=then, by=BY)
    rotation.switch(store, now=then, by=BY)
    store.renew(store.due(then), tmp_path / "new", now=then, by=BY)
    rotation.finish_root(store, now=then, by=BY)
    Credential.read(TlsFiles.in_directory(tmp_path / "new" / "worker-1"), then)


class _Crash(BaseException):
    """The machine went off."""


def _rotate(directory: Path, out: Path, kind: str) -> None:
    """A whole rotation, from wherever it stands."""
    store = AuthorityStore(AuthorityDirectory(directory))
    register = store.register
    begun = len(register.issuers) > 1 or any(not ca.is_root for ca in register.retired)
    if not begun and kind == "issuer":
        rotation.prepare_issuer(store, PLAIN, now=NOW, by=BY)
    elif not begun:
        rotation.prepare_root(store, None, now=NOW, by=BY)
    if store.register.next is not None:
        rotation.switch(store, now=NOW, by=BY)
    store.renew(["worker-1"], out, now=NOW, by=BY)
    if kind == "issuer":
        rotation.finish_issuer(store, PLAIN, now=NOW, by=BY)
    else:
        rotation.finish_root(store, now=NOW, by=BY)


@pytest.mark.parametrize("kind", ["issuer", "root"])
@pytest.mark.parametrize("writes", range(11))
def test_every_step_can_be_repeated_after_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, writes: int
) -> None:
    """Wherever a rotation is interrupted, the same commands bring it to the same end."""
    directory = tmp_path / "ca"
    new_store(directory).issue([WORKER], tmp_path / "old", now=NOW, by=BY)
    left = [None] * writes

    def crashing(write: Callable[..., None]) -> Callable[..., None]:
        def either(*arguments: object, **options: object) -> None:
            if not left:
                raise _Crash
            left.pop()
            write(*arguments, **options)

        return either

    with monkeypatch.context() as patch:
        for write in (files.append_durably, files.replace_files, files.remove_file):
            patch.setattr(f"pki.store.directory.{write.__name__}", crashing(write))
        with contextlib.suppress(_Crash):
            _rotate(directory, tmp_path / "new", kind)
    with contextlib.suppress(StoreError):  # it was finished before the crash, which an assertion below holds to
        _rotate(directory, tmp_path / "new", kind)
    store = AuthorityStore.open(directory)
    assert store.register.signing.stem.startswith("issuer-")
    assert (store.register.old, store.register.next) == ((), None)
    assert [path.name for path in directory.glob("issuer*.key")] == [f"{store.register.signing.stem}.key"]
    assert len(store.register.roots) == 1
    assert [record.event for record in store.records()].count(LedgerEvent.SWITCHED) == 1
    assert list(audit.faults(store, NOW)) == []
    store.issue([OTHER], tmp_path / "new", now=NOW, by=BY)
    _loads(tmp_path / "new" / "worker-2")
