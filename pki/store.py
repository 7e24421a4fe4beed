"""An authority in a directory: its certificates and keys, what it signed, and a lock against two writers.

    root.pem        the trusted roots
    root.key        0400, encrypted; may be kept elsewhere, daily work never reads it
    issuer.pem      the issuing CA
    issuer.key      0400
    authority.json  the networks it issues for
    ledger.jsonl    what it signed
    lock            held by whoever writes

The order is: lock, read the ledger, sign, record, sync, and only then write what leaves. So a crash anywhere
may leave a record without its certificate, which harms nobody, and never a certificate without its record.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pki.authority import Authority, CertifiedKey
from pki.credential import read_private
from pki.errors import StoreError
from pki.files import append_durably, create_directory, locked, read_file
from pki.identity import Role
from pki.issued import Issued
from pki.ledger import Event, Ledger, Record
from pki.scope import Network, Scope, parse_network

_VERSION = 1
_ROOTS, _ROOT_KEY = "root.pem", "root.key"
_ISSUER, _ISSUER_KEY = "issuer.pem", "issuer.key"
_SETTINGS, _LEDGER, _LOCK = "authority.json", "ledger.jsonl", "lock"


@dataclass(frozen=True, slots=True)
class Order:
    """One certificate that is wanted."""

    name: str
    role: Role
    hosts: tuple[str, ...] = ()
    life: timedelta | None = None  # the role's own when None


class AuthorityStore:
    """An authority's directory, open for issuing and looking up."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        self._directory = directory
        self.authority = authority

    @classmethod
    def create(
        cls, directory: Path, authority: Authority, *, passphrase: bytes | None, now: datetime, by: str
    ) -> Self:
        """Write a new authority, whole or not at all. `passphrase` encrypts the root's key, None does not.

        Raises `StoreError` when something is in `directory` already.
        """
        root = authority.root
        if root is None:
            raise StoreError("only an authority whose root key is at hand can be stored")
        signed = [Record(Event.CREATED, now, by, kept.certificate) for kept in (root, authority.issuer)]
        networks = [str(network) for network in authority.scope.networks]
        settings = {"version": _VERSION, "networks": networks}
        create_directory(
            directory,
            {
                _ROOTS: (_certificate_pem(root), 0o644),
                _ROOT_KEY: (_key_pem(root, passphrase), 0o400),
                _ISSUER: (_certificate_pem(authority.issuer), 0o644),
                _ISSUER_KEY: (_key_pem(authority.issuer, None), 0o400),
                _SETTINGS: (json.dumps(settings, indent=2).encode() + b"\n", 0o644),
                _LEDGER: (Ledger().lines(signed), 0o600),
            },
            mode=0o700,
        )
        return cls(directory, authority)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Read an authority back; raises `StoreError` or `TlsError` naming the file."""
        if not (directory / _ISSUER).exists():
            raise StoreError(f"{directory} holds no authority: make one with `pki init {directory} …`")
        roots = _certificates(directory / _ROOTS)
        issuer = _certificates(directory / _ISSUER)[0]
        key = _issuer_key(directory / _ISSUER_KEY)
        if key.public_key() != issuer.public_key():
            raise StoreError(f"{directory / _ISSUER_KEY} is not the key of {directory / _ISSUER}: put both back")
        scope = Scope.read(issuer, _networks(directory / _SETTINGS))
        return cls(directory, Authority(CertifiedKey(issuer, key), tuple(roots), scope))

    def records(self) -> tuple[Record, ...]:
        """Everything that was signed, oldest first; raises `StoreError` when the ledger is not whole."""
        return self._ledger().records

    def issue(
        self, orders: Sequence[Order], out: Path, *, now: datetime, by: str, replace: bool = False
    ) -> list[Issued]:
        """Certify, record, then write each to `out/NAME`; all are checked before one is recorded.

        Raises `PkiError`; `replace` lets the key of a NAME that is there already be overwritten.
        """
        with locked(self._directory / _LOCK):
            ledger = self._ledger()
            self._check(orders, ledger, out, replace=replace)
            issued = [
                self.authority.issue(order.name, order.role, order.hosts, now=now, life=order.life)
                for order in orders
            ]
            records = [Record(Event.ISSUED, now, by, one.certificate) for one in issued]
            append_durably(self._directory / _LEDGER, ledger.lines(records), at=ledger.size)
            for one in issued:
                one.write(out, replace=replace)
        return issued

    def _ledger(self) -> Ledger:
        return Ledger.read(read_file(self._directory / _LEDGER))

    @staticmethod
    def _check(orders: Sequence[Order], ledger: Ledger, out: Path, *, replace: bool) -> None:
        holders = {record.identity.name: record.identity.role for record in ledger.records if record.identity}
        for order in orders:
            # Software that maps the common name (PostgreSQL) could not tell the two apart.
            held = holders.setdefault(order.name, order.role)
            if held != order.role:
                raise StoreError(f"{order.name} is a {held} already: give the {order.role} another name")
            if not replace and (out / order.name).exists():
                raise StoreError(
                    f"{out / order.name} is there already: its key is kept; "
                    "--replace overwrites it, --out writes elsewhere"
                )
        names = [order.name for order in orders]
        if len(set(names)) != len(names):
            raise StoreError(f"names are given twice: {', '.join(sorted({n for n in names if names.count(n) > 1}))}")


def _certificate_pem(kept: CertifiedKey) -> bytes:
    return kept.certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(kept: CertifiedKey, passphrase: bytes | None) -> bytes:
    encryption = (
        serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
    )
    return kept.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(read_file(path))
    except ValueError:
        raise StoreError(f"{path} holds no PEM certificate: put back a copy") from None


def _issuer_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(read_private(path), password=None)
    except (ValueError, TypeError):
        raise StoreError(f"{path} holds no plain PEM private key: put back a copy") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise StoreError(f"{path} is no elliptic-curve key: put back a copy")
    return key


def _networks(path: Path) -> list[Network]:
    try:
        settings = json.loads(read_file(path))
        version, networks = settings["version"], settings["networks"]
    except (ValueError, KeyError, TypeError):
        raise StoreError(f"{path} is not the settings of an authority: put back a copy") from None
    if version != _VERSION:
        raise StoreError(f"{path} is of version {version}, this program reads {_VERSION}: use the newer program")
    return [parse_network(network) for network in networks]
