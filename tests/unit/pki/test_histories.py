"""Any history of an authority: whatever is done in whatever order, and wherever the machine goes off.

After every step the authority is opened anew, as the next command would, and held to what must always be true.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from unittest import mock

from cryptography import x509
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pki import files
from pki.ca.csr import SigningRequest, create_request
from pki.checks import audit
from pki.checks.inspection import read_chain
from pki.errors import PkiError
from pki.store import rotation
from pki.store.directory import AuthorityDirectory
from pki.store.ledger import LedgerEvent
from pki.store.store import AuthorityStore, CertificateSpec
from pki.x509.crl import Reason, RevocationLists
from pki.x509.identity import Role
from tests.unit.pki.stores import BY, HOSTS, NOW, PLAIN, new_store

HISTORIES = int(os.environ.get("ZKP_TEST_HISTORIES", "10"))
"""How many are tried; give 200 for a quarter of an hour of them."""
NAMES = st.sampled_from(["worker-1", "worker-2", "worker-3"])
MADE = (LedgerEvent.CREATED, LedgerEvent.ISSUED, LedgerEvent.SIGNED, LedgerEvent.RENEWED)


class _PowerLoss(BaseException):
    """The machine went off."""


class _Disk:
    """Takes so many more writes; of the next one, half reaches the disk."""

    def __init__(self) -> None:
        self.left: int | None = None
        self._write_all, self._sync = files._write_all, files._sync

    def write_all(self, descriptor: int, data: bytes) -> None:
        if self._goes_off():
            self._write_all(descriptor, data[: len(data) // 2])
            raise _PowerLoss
        self._write_all(descriptor, data)

    def sync(self, path: Path) -> None:
        if self._goes_off():
            raise _PowerLoss
        self._sync(path)

    def _goes_off(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        return self.left < 0

    @contextlib.contextmanager
    def patched(self) -> Iterator[None]:
        with (
            mock.patch.object(files, "_write_all", self.write_all),
            mock.patch.object(files, "_sync", self.sync),
        ):
            yield


class Histories(RuleBasedStateMachine):
    """Commands in any order, each of which may be the one in which the machine goes off."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.disk = _Disk()
        self.patches = contextlib.ExitStack()
        self.now = NOW

    @initialize()
    def create(self) -> None:
        new_store(self.place / "ca")
        self.patches.enter_context(self.disk.patched())

    def teardown(self) -> None:
        self.patches.close()
        shutil.rmtree(self.place)

    def _do(self, command: Callable[[AuthorityStore], object]) -> None:
        """As a process of its own would; a refusal is an outcome like any other."""
        with contextlib.suppress(PkiError, _PowerLoss):
            command(AuthorityStore(AuthorityDirectory(self.place / "ca")))
        self.disk.left = None

    @rule(writes=st.integers(0, 6))
    def power_will_fail(self, writes: int) -> None:
        self.disk.left = writes

    @rule(span=st.sampled_from([timedelta(hours=5), timedelta(days=2), timedelta(days=12), timedelta(days=150)]))
    def time_passes(self, span: timedelta) -> None:
        self.now += span

    @rule(name=NAMES, replace=st.booleans())
    def issue(self, name: str, replace: bool) -> None:
        order = CertificateSpec(name, Role.WORKER, HOSTS)
        self._do(lambda store: store.issue([order], self.place / "out", now=self.now, by=BY, replace=replace))

    @rule(name=NAMES)
    def sign(self, name: str) -> None:
        request = SigningRequest.read(create_request(name, HOSTS).request_pem)
        order = CertificateSpec(name, Role.WORKER, HOSTS)
        self._do(lambda store: store.sign(request, order, self.place / "signed", now=self.now, by=BY))

    @rule(keep=st.booleans())
    def renew(self, keep: bool) -> None:
        out = self.place / "out"
        self._do(lambda store: store.renew(store.due(self.now), out, now=self.now, by=BY, keep_key=keep))

    @rule(name=NAMES, reason=st.sampled_from([Reason.SUPERSEDED, Reason.KEY_COMPROMISE]))
    def revoke(self, name: str, reason: Reason) -> None:
        self._do(lambda store: store.revoke(store.find(name, self.now), reason, now=self.now, by=BY))

    @rule()
    def sign_lists(self) -> None:
        self._do(lambda store: store.sign_lists(now=self.now, by=BY))

    @rule()
    def prepare_issuer(self) -> None:
        self._do(lambda store: rotation.prepare_issuer(store, PLAIN, now=self.now, by=BY))

    @rule()
    def prepare_root(self) -> None:
        self._do(lambda store: rotation.prepare_root(store, None, now=self.now, by=BY))

    @rule()
    def switch(self) -> None:
        self._do(lambda store: rotation.switch(store, now=self.now, by=BY))

    @rule(force=st.booleans())
    def finish_issuer(self, force: bool) -> None:
        self._do(lambda store: rotation.finish_issuer(store, PLAIN, now=self.now, by=BY, force=force))

    @rule(force=st.booleans())
    def finish_root(self, force: bool) -> None:
        self._do(lambda store: rotation.finish_root(store, now=self.now, by=BY, force=force))

    @rule(root=st.booleans())
    def rotation_goes_on(self, root: bool) -> None:
        """The step that comes next, as an operator would take it; by chance alone few rotations come to their end."""
        register = AuthorityStore(AuthorityDirectory(self.place / "ca")).register
        if register.next is not None:
            self._do(lambda store: rotation.switch(store, now=self.now, by=BY))
        elif len(register.roots) > 1:
            self._do(lambda store: rotation.finish_root(store, now=self.now, by=BY, force=True))
        elif register.old:
            self._do(lambda store: rotation.finish_issuer(store, PLAIN, now=self.now, by=BY, force=True))
        elif root:
            self._do(lambda store: rotation.prepare_root(store, None, now=self.now, by=BY))
        else:
            self._do(lambda store: rotation.prepare_issuer(store, PLAIN, now=self.now, by=BY))

    @precondition(lambda self: self.disk.left is None)
    @invariant()
    def the_record_is_whole(self) -> None:
        """Serial numbers are unique, nothing outlives its issuer, and every signature is of a recorded CA."""
        store = AuthorityStore(AuthorityDirectory(self.place / "ca"))
        made = [record.certificate for record in store.records() if record.event in MADE]
        assert len({certificate.serial_number for certificate in made}) == len(made)
        cas = {certificate.subject: certificate for certificate in made if _is_ca(certificate)}
        for certificate in made:
            assert certificate.not_valid_after_utc <= cas[certificate.issuer].not_valid_after_utc
        mendable = ("run `pki crl`", "--finish` again", "--finish again")  # what a crash may leave, and its cure
        faults = audit.faults(store, self.now)
        assert [fault for fault in faults if not fault.endswith(mendable)] == []

    @precondition(lambda self: self.disk.left is None)
    @invariant()
    def nothing_left_without_a_record(self) -> None:
        """Whatever certificate lies anywhere outside, the ledger knows it."""
        store = AuthorityStore(AuthorityDirectory(self.place / "ca"))
        known = {record.certificate for record in store.records()}
        for file in self.place.glob("*/*/certificate.pem"):
            assert set(read_chain(file)) <= known

    @precondition(lambda self: self.disk.left is None)
    @invariant()
    def the_lists_are_complete(self) -> None:
        """The bundle of today names every revoked leaf that anybody with its roots might still accept."""
        store = AuthorityStore(AuthorityDirectory(self.place / "ca"))
        signing = store.register.signing.certificate
        if self.now >= signing.not_valid_after_utc:
            return  # it signs nothing any more, and nobody accepts what it signed
        store.write_bundle(self.place / "dist", now=self.now, by=BY)
        listed = RevocationLists.read((self.place / "dist" / "crl.pem").read_bytes()).serials
        roots = {root.certificate.subject for root in store.register.roots}
        for leaf in store.register.leaves:
            issuer = next(ca for ca in _issuers(store) if ca.subject == leaf.certificate.issuer)
            accepted = issuer.issuer in roots and self.now < leaf.certificate.not_valid_after_utc
            if accepted and leaf.serial in store.register.revocations:
                assert leaf.serial in listed or issuer.serial_number in listed


def _is_ca(certificate: x509.Certificate) -> bool:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def _issuers(store: AuthorityStore) -> list[x509.Certificate]:
    return [record.certificate for record in store.records() if record.event is LedgerEvent.CREATED]


TestHistories = Histories.TestCase
TestHistories.settings = settings(deadline=None, derandomize=True, max_examples=HISTORIES, stateful_step_count=30)
