"""Audit: detects altered, removed, lost and inserted data."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pki.ca.authority import Authority
from pki.ca.signing import pem_of
from pki.checks import audit
from pki.errors import StoreError
from pki.store.ledger import Ledger, LedgerEvent, LedgerRecord
from pki.store.store import AuthorityStore
from pki.x509.crl import Reason
from pki.x509.identity import Role
from pki.x509.serials import format_serial
from tests.unit.pki.stores import BY, NOW, OTHER, WORKER, new_store


@pytest.fixture
def store(tmp_path: Path) -> AuthorityStore:
    """A stored authority that did one of everything."""
    store = new_store(tmp_path / "ca")
    store.issue([WORKER, OTHER], tmp_path / "out", now=NOW, by=BY)
    store.renew(["worker-1"], tmp_path / "out", now=NOW, by=BY)
    store.revoke(store.find("worker-2", NOW), Reason.KEY_COMPROMISE, now=NOW, by=BY)
    return store


def _faults(store: AuthorityStore, head: str | None = None) -> str:
    return "\n".join(audit.faults(AuthorityStore(store.directory), NOW, head))


def test_an_honest_history_is_whole(store: AuthorityStore) -> None:
    """Nothing is found where nothing is wrong, also against an earlier head."""
    assert _faults(store) == ""
    head = store.ledger.head
    store.sign_lists(now=NOW, by=BY)
    assert _faults(store, head) == ""


def test_an_altered_line_stops_everything(store: AuthorityStore) -> None:
    """The chain of hashes is verified by whoever opens the authority."""
    path = store.directory.path / "ledger.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"worker-2"', b'"worker-9"', 1))
    with pytest.raises(StoreError, match=r"ledger, line \d+: damaged or altered"):
        AuthorityStore.open(store.directory.path)


def test_lines_cut_off_the_end_show_against_a_noted_head(store: AuthorityStore) -> None:
    """A shorter chain is whole in itself, and lacks the hash that an earlier audit ended with."""
    path, head = store.directory.path / "ledger.jsonl", store.ledger.head
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-2]))
    assert f"does not contain {head}" in _faults(store, head)
    assert "does not contain" not in _faults(store)


def _add(store: AuthorityStore, *records: LedgerRecord) -> None:
    path = store.directory.path / "ledger.jsonl"
    path.write_bytes(path.read_bytes() + Ledger.read(path.read_bytes()).lines(records))


def test_what_another_ca_signed_is_found(store: AuthorityStore) -> None:
    """A line that was added with its hash right, for a certificate that is not ours, shows."""
    foreign = Authority.create("zkp.local", now=NOW).issue("worker-3", Role.WORKER, now=NOW).certificate
    _add(store, LedgerRecord(LedgerEvent.ISSUED, NOW, "eve", foreign))
    assert "was not signed by a CA of this ledger" in _faults(store)


def test_a_doubled_and_an_unissued_number_are_found(store: AuthorityStore) -> None:
    """One number for two certificates, and a revocation of none."""
    again = store.register.leaves[0].certificate
    stranger = store.authority.issue("w", Role.WORKER, now=NOW).certificate
    _add(
        store,
        LedgerRecord(LedgerEvent.ISSUED, NOW, "eve", again),
        LedgerRecord(LedgerEvent.REVOKED, NOW, "eve", stranger),
    )
    assert "was given 2 times" in _faults(store)
    assert f"{format_serial(stranger.serial_number)} was revoked and never issued" in _faults(store)


def test_a_story_that_cannot_be_is_refused(store: AuthorityStore) -> None:
    """Lines about CAs that were never made, and leaves of nobody, stop the authority."""
    stranger = Authority.create("zkp.local", now=NOW)
    _add(store, LedgerRecord(LedgerEvent.SWITCHED, NOW, "eve", stranger.issuer.certificate))
    with pytest.raises(StoreError, match=r"about an unknown CA"):
        AuthorityStore.open(store.directory.path)


@pytest.mark.parametrize("kept", [0, 1])
def test_a_ledger_without_an_issuing_ca_is_refused(store: AuthorityStore, kept: int) -> None:
    """An empty or beheaded ledger is told apart from a new authority."""
    path = store.directory.path / "ledger.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:kept]))
    with pytest.raises(StoreError, match="ledger names no issuing CA"):
        AuthorityStore.open(store.directory.path)


def _foreign_list(path: Path) -> None:
    (path / "issuer.crl").write_bytes(pem_of(Authority.create("zkp.local", now=NOW).crl((), number=9, now=NOW)))


def _key_of_another(path: Path) -> None:
    (path / "issuer.key").unlink()
    (path / "root.key").rename(path / "issuer.key")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: (path / "issuer.crl").unlink(), "the revocation list of issuer is missing: run `pki crl`"),
        (_foreign_list, "the revocation list of issuer is not its own: run `pki crl`"),
        (lambda path: (path / "root.pem").unlink(), "root.pem: No such file"),
        (
            lambda path: (path / "root.pem").write_bytes((path / "issuer.pem").read_bytes()),
            "root.pem is not the certificate that the ledger names",
        ),
        (lambda path: (path / "issuer.key").unlink(), "issuer.key is missing"),
        (_key_of_another, "issuer.key is not the key of CN=issuing CA"),
    ],
)
def test_files_that_do_not_fit_the_ledger_are_found(
    store: AuthorityStore, damage: Callable[[Path], object], reason: str
) -> None:
    """What lies beside the ledger has to be what it speaks of."""
    damage(store.directory.path)
    assert reason in _faults(store)
