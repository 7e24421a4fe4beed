"""Operations of an authority on disk: issue, sign, renew, revoke.

Each operation checks its input, records the result under the lock, and only then writes output (see `directory.py`).
The state comes from the ledger (`state.py`); `ca/authority.py` signs.
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
    """Open directory of an authority. An operation that raises `PkiError` before its record has written no output."""

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
        """Write a new authority, all or nothing. `passphrase` encrypts the root's key, None does not.

        Raises `StoreError` when `directory` exists and is not empty.
        """
        root = authority.root
        if root is None:
            raise StoreError("only an authority with its root key can be stored")
        place = AuthorityDirectory(directory)
        place.create(authority, root, passphrase=passphrase, now=now, by=by)
        return cls(place)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open an authority; raise `StoreError` or `TlsError` naming the file if it is damaged."""
        store = cls(AuthorityDirectory(directory))
        _ = store.authority  # loads and checks every file now
        return store

    @property
    def register(self) -> AuthorityState:
        """State of the authority according to the ledger."""
        if self._register is None:
            self._register = AuthorityState.read(self.ledger.records)
        return self._register

    @property
    def authority(self) -> Authority:
        """Signing CA with the roots and CRLs to distribute."""
        if self._authority is None:
            self._authority = self._assemble()
        return self._authority

    @property
    def scope(self) -> NameConstraints:
        """Names that it may certify; no key is needed."""
        return NameConstraints.read(self.register.signing.certificate, self.directory.networks())

    def records(self) -> tuple[LedgerRecord, ...]:
        """Return all ledger records, oldest first."""
        return self.ledger.records

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock, with the ledger reloaded if another process has changed it."""
        with self.directory.locked():
            data = self.directory.ledger_bytes()
            if b"\n" in data[self.ledger.size :] or len(data) < self.ledger.size:
                self.ledger = Ledger.read(data)
                self._register = self._authority = None
            yield

    def record(self, records: Sequence[LedgerRecord], fresh: Crls | None = None) -> None:
        """Append to the ledger, then write CRLs; the caller must hold the lock.

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
        """Extend an error of an operation's second write by what the first one recorded, and the fix."""
        try:
            yield
        except StoreError as error:
            done = summary(records)
            raise StoreError(f"{error}. The ledger has recorded: {done}; {missing}: {cure}") from None

    def issue(
        self, specs: Sequence[CertificateSpec], out: Path, *, now: datetime, by: str, replace: bool = False
    ) -> list[IssuedIdentity]:
        """Certify, record, then write each to `out/NAME`; all are checked before any is recorded.

        `replace` permits to overwrite the key of an existing NAME.
        """
        with self.changing():
            self._check_names(specs)
            if not replace:
                _check_free(out, specs)
            authority, fresh = self._with_current_lists(now)
            issued = [authority.issue(spec.name, spec.role, spec.hosts, now=now, life=spec.life) for spec in specs]
            records = [LedgerRecord(LedgerEvent.ISSUED, now, by, one.certificate) for one in issued]
            self.record([*records, *crls.records(self.register, fresh, now, by)], fresh)
            missing = f"keys and certificates are not in {out}"
            with self._completing(records, missing, "run this command again, then `pki revoke --superseded`"):
                write_all(issued, out, replace=replace)
        return issued

    def sign(
        self, request: SigningRequest, spec: CertificateSpec, out: Path, *, now: datetime, by: str
    ) -> IssuedCertificate:
        """Certify the key of a CSR that matches `spec`, and write all files except the key to `out/NAME`."""
        with self.changing():
            self._check_names([spec])
            request.check(Identity(self.scope.trust_domain, spec.role, spec.name), spec.hosts)
            for held in self.register.leaves:
                if held.certificate.public_key() == request.key:
                    self._check_key_again(held, spec.name)
            authority, fresh = self._with_current_lists(now)
            leaf = authority.certify(request.key, spec.name, spec.role, spec.hosts, now=now, life=spec.life)
            certified = authority.deliver(leaf)
            certified.check_place(out)
            records = [LedgerRecord(LedgerEvent.SIGNED, now, by, leaf), *crls.records(self.register, fresh, now, by)]
            self.record(records, fresh)
            with self._completing(records, f"the certificate is not in {out}", "run this command again"):
                certified.write(out)
        return certified

    def due(self, now: datetime, out: Path | None = None) -> list[str]:
        """Return the names of the members that are due for renewal.

        They include those whose certificate in `out/NAME` is an earlier one: the last renewal was recorded but not
        written.
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
            return False  # not from this authority; renewing by name replaces it
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
        """Renew the certificates of these names, or of all that are due if None, and write to `out/NAME`.

        Keys are new unless `keep_key`; a key that a host made is kept, because only the host can replace it.
        """
        with self.changing():
            wanted = self.due(now, out) if names is None else names
            leaves = [self._renewable_leaf(name) for name in dict.fromkeys(wanted)]
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
        """Return the certificates to revoke for `which`: every valid one of a name, or the one with a serial number.

        Raises `StoreError` when the name or number is unknown, or is a CA's.
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
        """Revoke certificates and sign the CRLs; return those that were not revoked before.

        With the reason key compromise, every certificate of the same key is revoked. A CRL that lacks an earlier
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
        """Return whether a CA's CRL on disk is missing or lacks revocations of the ledger."""
        if ca.serial not in register.numbers:
            return False
        one = self.directory.revocation_list(ca)
        return one is None or not crls.is_complete(register, ca, one, now)

    def sign_lists(self, *, now: datetime, by: str, life: timedelta = CRL_LIFE) -> None:
        """Sign the CRL of every issuing CA; raise `AuthorityError` when the signing CA is not valid."""
        with self.changing():
            check_can_sign(self.register.signing.certificate, now)
            fresh = crls.sign(self.directory, self.register, self.register.issuers, now, life)
            self.record(crls.records(self.register, fresh, now, by), fresh)

    def write_bundle(self, out: Path, *, now: datetime, by: str) -> list[Path]:
        """Write `out/ca.pem` and `out/crl.pem`, with CRLs that are renewed first if due."""
        if crls.due(self.directory, self.register, now):
            with self.changing():
                authority, fresh = self._with_current_lists(now)
                self.record(crls.records(self.register, fresh, now, by), fresh)
        else:  # works for an authority on a read-only disk
            authority, _ = self._with_current_lists(now)
        texts = {"ca.pem": pem_of(*authority.roots)}
        if authority.crls:
            texts["crl.pem"] = pem_of(*authority.crls)
        replace_files({out / name: (text, 0o644) for name, text in texts.items()})
        return [out / name for name in texts]

    def _assemble(self) -> Authority:
        """Load the keys and CRLs for the state of the ledger."""
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
        """Return the authority with CRLs that are valid at `now`, and those of them that are new."""
        fresh = crls.sign(self.directory, self.register, crls.due(self.directory, self.register, now), now)
        held = crls.in_use(self.directory, self.register) | fresh
        effective = tuple(crls.effective(self.register, held, now).values())
        return replace(self.authority, crls=effective), fresh

    def _check_names(self, specs: Sequence[CertificateSpec]) -> None:
        taken: dict[str, Role] = {}
        for spec in specs:
            # Software that maps the common name (PostgreSQL) could not distinguish two roles of one name.
            held = self.register.role_of(spec.name) or taken.get(spec.name, spec.role)
            if held != spec.role:
                raise StoreError(f"{spec.name} is {held.with_article} already: give the {spec.role} another name")
            if spec.name in taken:
                raise StoreError(f"{spec.name} is duplicated: name each once")
            taken[spec.name] = spec.role

    def _renewable_leaf(self, name: str) -> LeafEntry:
        leaf = self.register.newest.get(name)
        if leaf is None:
            raise StoreError(f"{name!r} has no certificate that could be renewed: see `pki list`")
        if leaf.serial in self.register.revocations:
            raise StoreError(f"{name} was revoked: to admit it again, run `pki issue {name} --replace`")
        return leaf

    def _check_key_again(self, leaf: LeafEntry, name: str) -> None:
        """Raise `RequestError` if the key belongs to another name or was revoked as compromised."""
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
        """Return the previous validity, or None if the issuing CA's expiry had limited it."""
        certificate = leaf.certificate
        cut = {ca.certificate.not_valid_after_utc for ca in (*self.register.issuers, *self.register.retired)}
        if certificate.not_valid_after_utc in cut:
            return None
        return min(certificate.not_valid_after_utc - certificate.not_valid_before_utc - BACKDATE, LEAF_LIFE)


def serial_argument(which: str) -> int:
    """Parse an argument that is not a name as a serial number; raise `StoreError` if it is none."""
    try:
        return parse_serial(which)
    except SerialError as error:
        raise StoreError(
            f"{which[:60]!r} is neither a name nor a serial number of this authority ({error})"
        ) from None


def _check_free(out: Path, specs: Sequence[CertificateSpec]) -> None:
    for spec in specs:
        if (out / spec.name).exists():
            raise StoreError(
                f"{out / spec.name} already exists and is kept; --replace overwrites it, --out writes elsewhere"
            )
