"""Operations while the clock was ahead: their results are reported, replaced and not distributed."""

from datetime import timedelta
from pathlib import Path

import pytest

from pki.checks import audit
from pki.checks.expiry import Level, expiry_rows
from pki.commands import common
from pki.errors import AuthorityError, StoreError
from pki.store import rotation
from pki.store.state import CertificateStatus
from pki.store.store import AuthorityStore
from pki.x509.crl import Reason, RevocationLists
from tests.unit.pki.commands import INIT, said
from tests.unit.pki.stores import BY, NOW, OTHER, PLAIN, WORKER, new_store, trusts

AHEAD = NOW + timedelta(days=60)


@pytest.fixture
def store(tmp_path: Path) -> AuthorityStore:
    """A stored authority with worker-1, issued in time."""
    store = new_store(tmp_path / "ca")
    store.issue([WORKER], tmp_path / "out", now=NOW, by=BY)
    return store


def _late(store: AuthorityStore) -> set[str]:
    """Names of the rows that a monitor reacts to because they are not valid yet."""
    return {row.name for row in expiry_rows(store, NOW) if row.not_yet_valid and row.level is Level.LATE and row.cure}


def _begun(bundle: list[Path]) -> bool:
    lists = RevocationLists.read(bundle[1].read_bytes()).lists
    return all(one.last_update_utc <= NOW for one in lists)


def test_a_list_that_begins_in_the_future_is_signed_again_before_it_is_handed_out(
    store: AuthorityStore, tmp_path: Path
) -> None:
    """Status and audit name it, and the next bundle or certificate carries a list that is valid now."""
    store.revoke(store.find("worker-1", NOW), Reason.UNSPECIFIED, now=NOW, by=BY)
    store.sign_lists(now=AHEAD, by=BY)  # the revoked certificate has expired by then, and is left out
    assert _late(store) == {"of issuer"}
    [fault] = audit.faults(store, NOW)
    assert fault.startswith("the revocation list of issuer is not valid before 2026-07-31")

    assert _begun(store.write_bundle(tmp_path / "dist", now=NOW, by=BY))
    assert _late(store) == set()
    assert list(audit.faults(store, NOW)) == []


def test_a_certificate_that_begins_in_the_future_is_due(store: AuthorityStore, tmp_path: Path) -> None:
    """Listing, status and audit say so, and `renew --due` replaces it."""
    store.issue([OTHER], tmp_path / "out", now=AHEAD, by=BY)
    [leaf] = [leaf for leaf in store.register.leaves if leaf.identity.name == "worker-2"]
    assert store.register.status_of(leaf, NOW) is CertificateStatus.NOT_YET_VALID
    assert "worker-2" in _late(store)
    assert any("worker-2" in fault and "pki renew worker-2" in fault for fault in audit.faults(store, NOW))

    [renewed] = store.renew(None, tmp_path / "out", now=NOW, by=BY)
    assert renewed.identity.name == "worker-2"
    assert trusts(renewed.write(tmp_path / "again"), tmp_path / "out" / "worker-2" / "ca.pem")
    assert _late(store) == set()


def test_a_root_list_that_begins_in_the_future_is_not_handed_out(store: AuthorityStore, tmp_path: Path) -> None:
    """Only the root's key can sign another: the error says how, and it works."""
    rotation.prepare_issuer(store, PLAIN, now=NOW, by=BY)
    rotation.switch(store, now=NOW, by=BY)
    rotation.finish_issuer(store, PLAIN, now=AHEAD, by=BY, force=True)
    assert "of root" in _late(store)
    with pytest.raises(StoreError, match=r"list of root begins at 2026-07-31 .*`pki rotate-issuer --finish`"):
        store.write_bundle(tmp_path / "dist", now=NOW, by=BY)
    with pytest.raises(StoreError, match="list of root begins at"):
        store.issue([OTHER], tmp_path / "out", now=NOW, by=BY)
    assert not (tmp_path / "out" / "worker-2").exists()

    rotation.finish_issuer(store, PLAIN, now=NOW, by=BY)
    assert _late(store) == set()
    assert _begun(store.write_bundle(tmp_path / "dist", now=NOW, by=BY))


def test_an_issuing_ca_that_begins_in_the_future_is_replaced(store: AuthorityStore, tmp_path: Path) -> None:
    """It is not switched to, its list is not handed out, and a rotation can begin again without it."""
    rotation.prepare_issuer(store, PLAIN, now=AHEAD, by=BY)
    assert "issuer-2" in _late(store)
    with pytest.raises(StoreError, match="issuer-2 is not valid before 2026-07-31"):
        rotation.switch(store, now=NOW, by=BY)
    assert _begun(store.write_bundle(tmp_path / "dist", now=NOW, by=BY))

    good = rotation.prepare_issuer(store, PLAIN, now=NOW, by=BY)
    assert rotation.switch(store, now=NOW, by=BY) == good
    [renewed] = store.renew(None, tmp_path / "out", now=NOW, by=BY)
    assert good.signed(renewed.certificate)
    retired = rotation.finish_issuer(store, PLAIN, now=NOW, by=BY)
    assert [ca.stem for ca in retired] == ["issuer", "issuer-2"]
    assert list(audit.faults(store, NOW)) == []
    assert _late(store) == set()


def test_a_signing_ca_that_begins_in_the_future_signs_nothing(store: AuthorityStore, tmp_path: Path) -> None:
    """The error names the clock and the rotation that replaces the CA."""
    rotation.prepare_issuer(store, PLAIN, now=AHEAD, by=BY)
    rotation.switch(store, now=AHEAD, by=BY)
    with pytest.raises(StoreError, match=r"replace the CA with `pki rotate-issuer`"):
        store.issue([OTHER], tmp_path / "out", now=NOW, by=BY)
    with pytest.raises(AuthorityError, match="check the clock"):
        store.sign_lists(now=NOW, by=BY)

    good = rotation.prepare_issuer(store, PLAIN, now=NOW, by=BY)
    rotation.switch(store, now=NOW, by=BY)
    assert store.register.signing == good
    store.issue([OTHER], tmp_path / "out", now=NOW, by=BY)


def test_revoking_again_does_not_need_the_clock_of_before(store: AuthorityStore, tmp_path: Path) -> None:
    """What was revoked while the clock was ahead is on the list that is valid now."""
    [leaf] = store.revoke(store.find("worker-1", NOW), Reason.KEY_COMPROMISE, now=AHEAD, by=BY)
    bundle = store.write_bundle(tmp_path / "dist", now=NOW, by=BY)
    assert RevocationLists.read(bundle[1].read_bytes()).serials == {leaf.serial}
    assert _begun(bundle)


def test_a_clock_behind_the_ledger_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By commands that look and by commands that write, with both times."""
    monkeypatch.chdir(tmp_path)
    real = common.now()
    said(capsys, *INIT)
    for command in (["list"], ["bundle", "--out", "dist"], ["rotate-issuer"]):
        monkeypatch.setattr(common, "now", lambda: real - timedelta(days=1))
        common.app([*command, "-a", "ca"], standalone_mode=False)
        warning = capsys.readouterr().err
        assert warning.startswith(f"warning: the clock says {real - timedelta(days=1):%Y-%m-%d %H:%M} UTC")
        assert f"{real:%Y-%m-%d}" in warning
