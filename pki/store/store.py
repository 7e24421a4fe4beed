"""An authority on a disk, at work: issue, sign, renew, revoke.

Each operation checks everything first, records it under the lock, and only then lets anything leave (see
`directory.py`). The state is what the ledger says (`state.py`), the signing is `authority.py`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from pki.ca.authority import Authority, CertifiedKey
from pki.ca.csr import SigningRequest
from pki.ca.issued import IssuedCertificate, IssuedIdentity, write_all
from pki.ca.profiles import BACKDATE, CRL_LIFE, LEAF_LIFE
from pki.ca.signing import check_can_sign, pem_of
from pki.ca.specification import CertificateSpec
from pki.errors import RequestError, SerialError, StoreError
from pki.files import read_file, replace_files
from pki.store import crls
from pki.store.crls import Crls
from pki.store.directory import AuthorityDirectory
from pki.store.ledger import Ledger, LedgerEvent, LedgerRecord, summary
from pki.store.state import AuthorityState, Ca, LeafEntry
from pki.x509.crl import Reason
from pki.x509.identity import Identity, Role
from pki.x509.name_constraints import NameConstraints
from pki.x509.parsing import read_certificates
from pki.x509.serials import parse_serial

__all__ = ["AuthorityStore", "CertificateSpec"]


class AuthorityStore:
    """An authority's directory, open for work. Operations raise `PkiError`, and then nothing has left."""

    def __init__(self, directory: AuthorityDirectory) -> None:
        self.directory = directory
        self.ledger = Ledger.read(directory.ledger_bytes())
        self._register: AuthorityState | None = None
        self._authority: Authority | None = None
        self._signing: CertifiedKey | None = None

    @classmethod
    def create(
        cls, directory: Path, authority: Authority, *, passphrase: bytes | None, now: datetime, by: str
    ) -> Self:
        """Write a new authority, whole or not at all. `passphrase` encrypts the root's key, None does not.

        Raises `StoreError` when something is in `directory` already.
        """
        root = authority.root
        if root is None:
            raise StoreError("only an authority with its root key can be stored")
        place = AuthorityDirectory(directory)
        place.create(authority, root, passphrase=passphrase, now=now, by=by)
        return cls(place)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Read an authority back; raises `StoreError` or `TlsError` naming the file."""
        store = cls(AuthorityDirectory(directory))
        _ = store.authority  # whatever is damaged is found now
        return store

    @property
    def register(self) -> AuthorityState:
        """What the ledger says is so."""
        if self._register is None:
            self._register = AuthorityState.read(self.ledger.records)
        return self._register

    @property
    def authority(self) -> Authority:
        """What signs now, and what it gives to everybody."""
        if self._authority is None:
            self._authority = self._assemble()
        return self._authority

    @property
    def scope(self) -> NameConstraints:
        """What it may certify; known without any key."""
        return NameConstraints.read(self.register.signing.certificate, self.directory.networks())

    def records(self) -> tuple[LedgerRecord, ...]:
        """Everything that happened, oldest first."""
        return self.ledger.records

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock, and see what others did before it was had."""
        with self.directory.locked():
            data = self.directory.ledger_bytes()
            if b"\n" in data[self.ledger.size :] or len(data) < self.ledger.size:
                self.ledger = Ledger.read(data)
                self._register = self._authority = None
            yield

    def record(self, records: Sequence[LedgerRecord], fresh: Crls | None = None) -> None:
        """Add to the ledger, and after it write revocation lists; under the lock.

        Raises:
            StoreError: the ledger could not be written, and nothing has changed; or the lists could not be, and the
                error says what is recorded and how to complete it.
        """
        if records:
            try:
                self.ledger = self.directory.append(self.ledger, records)
            except StoreError as error:
                raise StoreError(f"{error}; nothing was recorded or changed") from None
        self._register = self._authority = None
        if fresh:
            stems = ", ".join(ca.stem for ca in fresh)
            with self._completing(records, f"the revocation list of {stems} is missing", "run this command again"):
                self.directory.write_lists(fresh)

    @contextmanager
    def _completing(self, records: Sequence[LedgerRecord], missing: str, cure: str) -> Iterator[None]:
        """The second write of an operation: a failure says what the first one has recorded, and what to do."""
        try:
            yield
        except StoreError as error:
            done = summary(records)
            raise StoreError(f"{error}. The ledger has recorded: {done}; {missing}: {cure}") from None

    def issue(
        self, orders: Sequence[CertificateSpec], out: Path, *, now: datetime, by: str, replace: bool = False
    ) -> list[IssuedIdentity]:
        """Certify, record, then write each to `out/NAME`; all are checked before one is recorded.

        `replace` lets the key of a NAME that is there already be overwritten.
        """
        with self.changing():
            self._check_names(orders)
            if not replace:
                _check_free(out, orders)
            authority, fresh = self._with_current_lists(now)
            issued = [
                authority.issue(order.name, order.role, order.hosts, now=now, life=order.life) for order in orders
            ]
            records = [LedgerRecord(LedgerEvent.ISSUED, now, by, one.certificate) for one in issued]
            self.record([*records, *crls.records(self.register, fresh, now, by)], fresh)
            missing = f"keys and certificates are not in {out}"
            with self._completing(records, missing, "run this command again, then `pki revoke --superseded`"):
                write_all(issued, out, replace=replace)
        return issued

    def sign(
        self, request: SigningRequest, order: CertificateSpec, out: Path, *, now: datetime, by: str
    ) -> IssuedCertificate:
        """Certify the key of a request that asks for just this, and write all but the key to `out/NAME`."""
        with self.changing():
            self._check_names([order])
            request.check(Identity(self.scope.trust_domain, order.role, order.name), order.hosts)
            for held in self.register.leaves:
                if held.certificate.public_key() == request.key:
                    self._check_key_again(held, order.name)
            authority, fresh = self._with_current_lists(now)
            leaf = authority.certify(request.key, order.name, order.role, order.hosts, now=now, life=order.life)
            certified = authority.deliver(leaf)
            certified.check_place(out)
            records = [LedgerRecord(LedgerEvent.SIGNED, now, by, leaf), *crls.records(self.register, fresh, now, by)]
            self.record(records, fresh)
            with self._completing(records, f"the certificate is not in {out}", "run this command again"):
                certified.write(out)
        return certified

    def due(self, now: datetime, out: Path | None = None) -> list[str]:
        """Names of the members that are to be renewed.

        Also those whose certificate in `out/NAME` is an earlier one: their last renewal was recorded and not written.
        """
        return [
            leaf.identity.name
            for leaf in self.register.members()
            if self.register.is_due(leaf, now) or (out is not None and self._is_outdated(leaf, out))
        ]

    def _is_outdated(self, leaf: LeafEntry, out: Path) -> bool:
        path = out / leaf.identity.name / "certificate.pem"
        if not path.exists():
            return False
        try:
            held = read_certificates(read_file(path))[0]
        except ValueError:
            return False  # not one of ours; renewing by name replaces it
        return held != leaf.certificate and any(held == other.certificate for other in self.register.leaves)

    def renew(
        self,
        names: Sequence[str] | None,
        out: Path,
        *,
        now: datetime,
        by: str,
        keep_key: bool = False,
        life: timedelta | None = None,
    ) -> list[IssuedIdentity | IssuedCertificate]:
        """Certify these names again as they were, None for all that are due, and write to `out/NAME`.

        Keys are new, unless `keep_key`; a key that a host made is kept, as only the host can make another.
        """
        with self.changing():
            wanted = self.due(now, out) if names is None else names
            leaves = [self._renewable(name) for name in dict.fromkeys(wanted)]
            authority, fresh = self._with_current_lists(now)
            renewed: list[IssuedIdentity | IssuedCertificate] = []
            for leaf in leaves:
                identity, hosts, span = leaf.identity, leaf.record.hosts, life or self._life(leaf)
                if keep_key or leaf.key_elsewhere:
                    self._check_key_again(leaf, identity.name)
                    key = leaf.certificate.public_key()
                    again = authority.certify(key, identity.name, identity.role, hosts, now=now, life=span)
                    certified = authority.deliver(again)
                    certified.check_place(out)
                    renewed.append(certified)
                else:
                    renewed.append(authority.issue(identity.name, identity.role, hosts, now=now, life=span))
            records = [LedgerRecord(LedgerEvent.RENEWED, now, by, one.certificate) for one in renewed]
            self.record([*records, *crls.records(self.register, fresh, now, by)], fresh)
            with self._completing(records, f"keys and certificates are not in {out}", "run this command again"):
                write_all(renewed, out, replace=True)
        return renewed

    def find(self, which: str, now: datetime) -> list[LeafEntry]:
        """What revoking `which` takes back: of a name every valid certificate, of a serial number that one.

        Raises `StoreError` when there is no such name or number, or it is a CA's.
        """
        named = [leaf for leaf in self.register.leaves if leaf.identity.name == which]
        if named:
            valid = [leaf for leaf in named if now < leaf.certificate.not_valid_after_utc]
            return valid or named[-1:]
        serial = serial_argument(which)
        for leaf in self.register.leaves:
            if leaf.serial == serial:
                return [leaf]
        if any(ca.serial == serial for ca in (*self.register.issuers, *self.register.roots)):
            raise StoreError(f"{which} is a CA: replace it with `pki rotate-issuer` or `pki rotate-root`")
        raise StoreError(f"{which!r} is neither a name nor a serial number of this authority: see `pki list`")

    def revoke(self, leaves: Sequence[LeafEntry], reason: Reason, *, now: datetime, by: str) -> list[LeafEntry]:
        """Take certificates back, and sign the lists that say so; returns those that were not revoked before.

        A compromised key takes every certificate with it that was given to that key. A list that lacks an earlier
        revocation, because it could not be written, is signed again.
        """
        with self.changing():
            concerned = self._with_their_keys(leaves, now) if reason is Reason.KEY_COMPROMISE else leaves
            taken = [leaf for leaf in concerned if leaf.serial not in self.register.revocations]
            for leaf in taken:
                if any(ca.signed(leaf.certificate) for ca in self.register.retired):
                    raise StoreError(
                        f"{leaf.record.serial} was issued by a retired issuing CA: it is no longer accepted"
                    )
            records = [LedgerRecord(LedgerEvent.REVOKED, now, by, leaf.certificate, reason=reason) for leaf in taken]
            after = AuthorityState.read([*self.records(), *records])
            issuers = [ca for ca in after.issuers if any(ca.signed(leaf.certificate) for leaf in concerned)]
            late = [ca for ca in dict.fromkeys((after.signing, *issuers)) if taken or self._lacks(after, ca, now)]
            fresh = crls.sign(self.directory, after, late, now)
            if records or fresh:
                self.record([*records, *crls.records(after, fresh, now, by)], fresh)
        return taken

    def _lacks(self, register: AuthorityState, ca: Ca, now: datetime) -> bool:
        """Whether a CA's list on the disk is missing, or lacks what the ledger has revoked."""
        if ca.serial not in register.numbers:
            return False
        one = self.directory.revocation_list(ca)
        return one is None or not crls.is_complete(register, ca, one, now)

    def sign_lists(self, *, now: datetime, by: str, life: timedelta = CRL_LIFE) -> None:
        """Sign the list of every issuing CA again; raises `AuthorityError` when the one that signs is not valid."""
        with self.changing():
            check_can_sign(self.register.signing.certificate, now)
            fresh = crls.sign(self.directory, self.register, self.register.issuers, now, life)
            self.record(crls.records(self.register, fresh, now, by), fresh)

    def write_bundle(self, out: Path, *, now: datetime, by: str) -> list[Path]:
        """Write `out/ca.pem` and `out/crl.pem`, with lists that are made current first."""
        if crls.due(self.directory, self.register, now):
            with self.changing():
                authority, fresh = self._with_current_lists(now)
                self.record(crls.records(self.register, fresh, now, by), fresh)
        else:  # an authority on a read-only disk can be handed out
            authority, _ = self._with_current_lists(now)
        texts = {"ca.pem": pem_of(*authority.roots)}
        if authority.crls:
            texts["crl.pem"] = pem_of(*authority.crls)
        replace_files({out / name: (text, 0o644) for name, text in texts.items()})
        return [out / name for name in texts]

    def _assemble(self) -> Authority:
        """The keys and lists that belong to the ledger's state, from the files."""
        register = self.register
        if self._signing is None or self._signing.certificate != register.signing.certificate:
            for ca in (register.signing, *register.roots):
                self.directory.check(ca)
            self._signing = self.directory.issuer_key(register.signing)
        return Authority(
            issuer=self._signing,
            roots=tuple(root.certificate for root in register.roots),
            scope=self.scope,
            crls=tuple(crls.in_use(self.directory, register).values()),
        )

    def _with_current_lists(self, now: datetime) -> tuple[Authority, Crls]:
        """The authority with lists that may be handed out at `now`, and those of them that are new."""
        fresh = crls.sign(self.directory, self.register, crls.due(self.directory, self.register, now), now)
        held = crls.in_use(self.directory, self.register) | fresh
        begun = tuple(crls.begun(self.register, held, now).values())
        return replace(self.authority, crls=begun), fresh

    def _check_names(self, orders: Sequence[CertificateSpec]) -> None:
        taken: dict[str, Role] = {}
        for order in orders:
            # Software that maps the common name (PostgreSQL) could not tell two roles of one name apart.
            held = self.register.role_of(order.name) or taken.get(order.name, order.role)
            if held != order.role:
                raise StoreError(f"{order.name} is {held.with_article} already: give the {order.role} another name")
            if order.name in taken:
                raise StoreError(f"{order.name} is duplicated: name each once")
            taken[order.name] = order.role

    def _renewable(self, name: str) -> LeafEntry:
        leaf = self.register.newest.get(name)
        if leaf is None:
            raise StoreError(f"{name!r} has no certificate that could be renewed: see `pki list`")
        if leaf.serial in self.register.revocations:
            raise StoreError(f"{name} was revoked: to admit it again, run `pki issue {name} --replace`")
        return leaf

    def _check_key_again(self, leaf: LeafEntry, name: str) -> None:
        """A key belongs to one name, and one that somebody stole belongs to nobody."""
        if leaf.identity.name != name:
            raise RequestError(f"has the key of {leaf.identity.name}: make one of its own with `pki request`")
        revocation = self.register.revocations.get(leaf.serial)
        if revocation is not None and revocation.reason is Reason.KEY_COMPROMISE:
            raise RequestError("has a key that was revoked as compromised: make another with `pki request`")

    def _with_their_keys(self, leaves: Sequence[LeafEntry], now: datetime) -> list[LeafEntry]:
        keys = [leaf.certificate.public_key() for leaf in leaves]
        others = (
            leaf
            for leaf in self.register.leaves
            if now < leaf.certificate.not_valid_after_utc and leaf.certificate.public_key() in keys
        )
        return list({leaf.serial: leaf for leaf in (*leaves, *others)}.values())

    def _life(self, leaf: LeafEntry) -> timedelta | None:
        """As long as last time, unless that was cut short by the issuing CA's own end."""
        certificate = leaf.certificate
        cut = {ca.certificate.not_valid_after_utc for ca in (*self.register.issuers, *self.register.retired)}
        if certificate.not_valid_after_utc in cut:
            return None
        return min(certificate.not_valid_after_utc - certificate.not_valid_before_utc - BACKDATE, LEAF_LIFE)


def serial_argument(which: str) -> int:
    """The serial number of an argument that is not a name; raises `StoreError`."""
    try:
        return parse_serial(which)
    except SerialError as error:
        raise StoreError(
            f"{which[:60]!r} is neither a name nor a serial number of this authority ({error})"
        ) from None


def _check_free(out: Path, orders: Sequence[CertificateSpec]) -> None:
    for order in orders:
        if (out / order.name).exists():
            raise StoreError(
                f"{out / order.name} already exists and is kept; --replace overwrites it, --out writes elsewhere"
            )
