"""Revocation by name and serial number, with complete CRLs after every failure."""

import json
import os
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from pki import files as pki_files
from pki.ca.profiles import CRL_LIFE
from pki.ca.signing import pem_of
from pki.errors import StoreError
from pki.store import crls
from pki.store.ledger import LedgerEvent
from pki.store.state import CertificateStatus
from pki.store.store import AuthorityStore, CertificateSpec
from pki.x509.crl import Reason, RevocationLists
from pki.x509.identity import Role
from tests.unit.pki.stores import BY, NOW, OTHER, WORKER, new_store


@pytest.fixture
def store(tmp_path: Path) -> AuthorityStore:
    """A stored authority with two workers in `out`."""
    store = new_store(tmp_path / "ca")
    store.issue([WORKER, OTHER], tmp_path / "out", now=NOW, by=BY)
    return store


def _revoke(store: AuthorityStore, which: str, now: datetime = NOW) -> list[int]:
    taken = store.revoke(store.find(which, now), Reason.KEY_COMPROMISE, now=now, by=BY)
    return [leaf.serial for leaf in taken]


def _listed(store: AuthorityStore) -> frozenset[int]:
    """What a reader of the bundle finds revoked."""
    return RevocationLists.read(pem_of(*store.authority.crls)).serials


def _number(store: AuthorityStore) -> int:
    one = store.directory.revocation_list(store.register.signing)
    assert one is not None
    return one.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_a_name_takes_back_every_valid_certificate(store: AuthorityStore, tmp_path: Path) -> None:
    """Who is revoked by name cannot come back with an older certificate that is still valid."""
    store.renew(["worker-1"], tmp_path / "out", now=NOW, by=BY)
    taken = _revoke(store, "worker-1")
    assert len(taken) == 2
    assert _listed(store) == set(taken)
    assert [store.register.status_of(leaf, NOW) for leaf in store.register.leaves] == [
        CertificateStatus.REVOKED,
        CertificateStatus.VALID,
        CertificateStatus.REVOKED,
    ]
    assert [leaf.identity.name for leaf in store.register.members()] == ["worker-2"]


def test_a_serial_number_takes_back_one(store: AuthorityStore) -> None:
    """As openssl prints it, upper case and with a leading zero."""
    serial = store.register.leaves[1].serial
    assert _revoke(store, f"0{serial:X}") == [serial]
    assert _listed(store) == {serial}


def test_a_serial_number_is_taken_in_every_form_that_openssl_prints(store: AuthorityStore) -> None:
    """With 0x and with colons, too; a number that may be decimal is questioned."""
    leaf = store.register.leaves[1]
    octets = leaf.serial.to_bytes(16, "big")
    for written in (hex(leaf.serial), octets.hex(":").upper(), octets.hex()):
        assert store.find(written, NOW) == [leaf]
    with pytest.raises(StoreError, match="is it decimal"):
        store.find(str(2**127 + leaf.serial), NOW)


def test_a_revocation_is_recorded_with_its_reason(store: AuthorityStore) -> None:
    """The ledger has who, when and why, and the number of the list that says so."""
    _revoke(store, "worker-1")
    revoked, listed = store.records()[-2:]
    assert (revoked.event, revoked.reason, revoked.by, revoked.at) == (
        LedgerEvent.REVOKED,
        Reason.KEY_COMPROMISE,
        BY,
        NOW,
    )
    assert (listed.event, listed.number) == (LedgerEvent.CRL, _number(store))
    line = json.loads((store.directory.path / "ledger.jsonl").read_bytes().splitlines()[-2])
    assert (line["event"], line["reason"], line["name"]) == ("revoked", "key-compromise", "worker-1")


def test_a_compromised_key_takes_all_its_certificates_back(store: AuthorityStore, tmp_path: Path) -> None:
    """Revoking one certificate of a stolen key by number revokes the newer one of that key, too, and no other."""
    store.renew(["worker-1"], tmp_path / "out", now=NOW, by=BY, keep_key=True)
    first, other, second = store.register.leaves
    assert _revoke(store, first.record.serial) == [first.serial, second.serial]
    assert other.serial not in store.register.revocations
    taken = store.revoke([other], Reason.SUPERSEDED, now=NOW, by=BY)
    assert taken == [other]


def test_revoking_twice_changes_nothing(store: AuthorityStore) -> None:
    """The second time nobody is taken back, and no line is written."""
    _revoke(store, "worker-1")
    before = store.records()
    assert _revoke(store, "worker-1") == []
    assert store.records() == before


def test_what_is_unknown_or_a_ca_cannot_be_revoked(store: AuthorityStore) -> None:
    """A typing error and a CA lead to the right command."""
    with pytest.raises(StoreError, match=r"'nobody' is neither a name nor a serial .*`pki list`"):
        store.find("nobody", NOW)
    for ca in (store.register.signing, store.register.roots[0]):
        with pytest.raises(StoreError, match=r"is a CA: .*`pki rotate-issuer`"):
            store.find(f"{ca.serial:x}", NOW)


def test_an_expired_member_can_be_put_aside(store: AuthorityStore) -> None:
    """A host that is gone is revoked even after its certificate ended, so that nobody waits for its renewal."""
    later = NOW + timedelta(days=40)
    assert _revoke(store, "worker-1", later)
    assert [leaf.identity.name for leaf in store.register.members()] == ["worker-2"]
    assert _listed(store) == frozenset()


def test_a_list_forgets_what_has_expired(store: AuthorityStore) -> None:
    """An expired certificate stays on the list for a day, for clocks that are behind, and then leaves it."""
    [serial] = _revoke(store, "worker-1")
    end = store.register.leaves[0].certificate.not_valid_after_utc
    store.sign_lists(now=end + timedelta(hours=23), by=BY)
    assert _listed(store) == {serial}
    store.sign_lists(now=end + timedelta(hours=25), by=BY)
    assert _listed(store) == frozenset()


def test_numbers_grow(store: AuthorityStore) -> None:
    """No two lists of a CA have one number, whoever asks for them."""
    numbers = [_number(store)]
    for which in ("worker-1", "worker-2"):
        _revoke(AuthorityStore.open(store.directory.path), which)
        numbers.append(_number(store))
    AuthorityStore.open(store.directory.path).sign_lists(now=NOW, by=BY)
    assert [*numbers, _number(store)] == [1, 2, 3, 4]


def test_what_is_handed_out_carries_a_list_of_today(store: AuthorityStore, tmp_path: Path) -> None:
    """A list is signed again once it is a day old, so that who is renewed in time has a good list, too."""
    soon = NOW + timedelta(hours=20)
    store.issue([CertificateSpec("worker-3", Role.WORKER)], tmp_path / "out", now=soon, by=BY)
    assert _number(store) == 1
    later = NOW + timedelta(days=2)
    store.renew(["worker-3"], tmp_path / "out", now=later, by=BY)
    assert _number(store) == 2
    held = RevocationLists.read((tmp_path / "out" / "worker-3" / "crl.pem").read_bytes())
    signing = store.register.signing
    assert held.next_updates([signing.certificate]) == {signing.serial: later + CRL_LIFE}


def test_a_crash_before_the_list_is_written_is_mended(
    store: AuthorityStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recorded revocation is on the list of whatever leaves next, though the command that made it died."""

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    serial = store.register.leaves[0].serial
    with monkeypatch.context() as patch:
        patch.setattr("pki.store.directory.replace_files", crash)
        with pytest.raises(KeyboardInterrupt):
            _revoke(store, "worker-1")
    reopened = AuthorityStore.open(store.directory.path)
    assert serial in reopened.register.revocations
    assert _listed(reopened) == frozenset()
    reopened.write_bundle(tmp_path / "dist", now=NOW, by=BY)
    assert RevocationLists.read((tmp_path / "dist" / "crl.pem").read_bytes()).serials == {serial}


def test_a_list_that_could_not_be_written_is_completed_by_the_same_command(
    store: AuthorityStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what is recorded and what is missing; the second time the list is signed."""

    def full(*_: object) -> None:
        raise StoreError("issuer.crl: No space left on device; free some space, then try again")

    serial = store.register.leaves[0].serial
    with monkeypatch.context() as patch:
        patch.setattr("pki.store.directory.replace_files", full)
        message = r"recorded: revoked worker-1; the revocation list of issuer is missing: run this command again"
        with pytest.raises(StoreError, match=message):
            _revoke(store, "worker-1")
    assert serial in store.register.revocations
    assert _listed(store) == frozenset()

    again = AuthorityStore.open(store.directory.path)
    assert _revoke(again, "worker-1") == []
    assert _listed(again) == {serial}
    before = again.records()
    assert _revoke(again, "worker-1") == []
    assert again.records() == before


def test_a_ledger_that_takes_only_one_of_two_lines_takes_none(
    store: AuthorityStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first line alone would be a revocation of which the error says that it was not recorded."""
    before = store.directory.ledger_bytes()
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        line_end = bytes(data).find(b"\n") + 1
        if not 0 < line_end < len(data):
            raise OSError(28, "No space left on device")
        count: int = real(descriptor, bytes(data)[:line_end])
        return count

    with monkeypatch.context() as patch:
        patch.setattr("pki.files.os.write", write)
        with pytest.raises(StoreError, match="nothing was recorded or changed"):
            _revoke(store, "worker-1")
    assert store.directory.ledger_bytes() == before
    assert _revoke(store, "worker-1")


@pytest.mark.parametrize("damage", [None, b"", b"nonsense"])
def test_a_lost_list_is_signed_again(store: AuthorityStore, damage: bytes | None) -> None:
    """A missing file is made again; a damaged one is named, and is gone after it was removed."""
    [serial] = _revoke(store, "worker-1")
    path = store.directory.path / "issuer.crl"
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
        with pytest.raises(StoreError, match=r"issuer\.crl holds no revocation list: remove it, and run `pki crl`"):
            AuthorityStore.open(store.directory.path)
        path.unlink()
    again = AuthorityStore.open(store.directory.path)
    again.sign_lists(now=NOW, by=BY)
    assert _listed(again) == {serial}
    assert _number(again) == 3


def test_an_older_list_put_back_is_noticed(store: AuthorityStore) -> None:
    """A list from a backup lacks what was revoked since, and is replaced before anything leaves."""
    path = store.directory.path / "issuer.crl"
    backup = path.read_bytes()
    _revoke(store, "worker-1")
    path.write_bytes(backup)
    again = AuthorityStore.open(store.directory.path)
    assert crls.due(again.directory, again.register, NOW) == [again.register.signing]


def test_a_bundle_is_what_everybody_needs(store: AuthorityStore, tmp_path: Path) -> None:
    """Roots and lists, readable by all, and the same again when nothing has changed."""
    paths = store.write_bundle(tmp_path / "dist", now=NOW, by=BY)
    assert [path.name for path in paths] == ["ca.pem", "crl.pem"]
    before = [path.read_bytes() for path in paths]
    assert before == [(tmp_path / "out" / "worker-1" / path.name).read_bytes() for path in paths]
    store.write_bundle(tmp_path / "dist", now=NOW, by=BY)
    assert [path.read_bytes() for path in paths] == before
    assert pki_files.read_file(paths[0]).count(b"BEGIN CERTIFICATE") == 1


def test_an_authority_without_lists_gets_none_by_itself(store: AuthorityStore, tmp_path: Path) -> None:
    """One that was made before there were lists goes on without, until somebody asks for the first."""
    ledger = store.directory.path / "ledger.jsonl"
    lines = ledger.read_bytes().splitlines(keepends=True)
    ledger.write_bytes(b"".join(lines[:2]))
    for name in ("root.crl", "issuer.crl"):
        (store.directory.path / name).unlink()
    old = AuthorityStore.open(store.directory.path)
    [issued] = old.issue([WORKER], tmp_path / "new", now=NOW, by=BY)
    assert issued.crl_pem is None
    assert [path.name for path in old.write_bundle(tmp_path / "dist", now=NOW, by=BY)] == ["ca.pem"]
    _revoke(old, "worker-1")
    assert [path.name for path in old.write_bundle(tmp_path / "dist", now=NOW, by=BY)] == ["ca.pem", "crl.pem"]
