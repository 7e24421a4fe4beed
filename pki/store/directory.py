"""Directory of an authority: its files and the order of writes.

    root.pem  root.key       0400, encrypted; may be kept elsewhere, daily work never reads it
    issuer.pem  issuer.key   0400
    root.crl  issuer.crl     the last revocation list of each
    root-2.*  issuer-2.*     the same after a rotation; a retired issuing CA's key is removed
    authority.json           the networks it issues for
    ledger.jsonl             the operations: the only state
    lock                     held by the process that writes

The order is: lock, read the ledger, sign, record, sync, and only then write the output. So a crash may leave a record
without its certificate, which is harmless, but never a certificate without its record. A new CA's files are written
before its ledger line; without that line they are unused, and are overwritten.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pki.ca.authority import Authority, CertifiedKey
from pki.ca.profiles import CRL_LIFE, ROOT_CRL_LIFE
from pki.ca.signing import pem_of, sign_crl
from pki.errors import StoreError
from pki.files import Contents, append_durably, create_directory, locked, read_file, remove_file, replace_files
from pki.store.ledger import Ledger, LedgerEvent, LedgerRecord
from pki.store.state import Ca
from pki.tls.credential import read_private
from pki.x509.keys import private_pem
from pki.x509.name_constraints import Network, parse_network
from pki.x509.parsing import read_certificates, read_lists

_VERSION = 1
_SETTINGS, _LEDGER, _LOCK = "authority.json", "ledger.jsonl", "lock"


@dataclass(frozen=True, slots=True)
class AuthorityDirectory:
    """Directory of an authority. Methods raise `StoreError` or `TlsError` that names the file."""

    path: Path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the authority's lock against other writers."""
        with locked(self.path / _LOCK):
            yield

    def create(
        self,
        authority: Authority,
        root: CertifiedKey,
        *,
        passphrase: bytes | None,
        now: datetime,
        by: str,
    ) -> None:
        """Write a new authority and its first CRLs, all or nothing."""
        issuer = authority.issuer
        records = [
            *(LedgerRecord(LedgerEvent.CREATED, now, by, ca.certificate) for ca in (root, issuer)),
            *(LedgerRecord(LedgerEvent.CRL, now, by, ca.certificate, number=1) for ca in (root, issuer)),
        ]
        contents: Contents = {
            **_ca_contents("root", root, sign_crl(root, (), number=1, now=now, life=ROOT_CRL_LIFE), passphrase),
            **_ca_contents("issuer", issuer, sign_crl(issuer, (), number=1, now=now, life=CRL_LIFE), None),
            _SETTINGS: (_settings(authority.scope.networks), 0o644),
            _LEDGER: (Ledger().lines(records), 0o600),
        }
        create_directory(self.path, contents, mode=0o700)

    def ledger_bytes(self) -> bytes:
        """Return the bytes of the ledger."""
        if not (self.path / _LEDGER).exists():
            raise StoreError(f"{self.path} holds no authority: make one with `pki init {self.path} …`")
        return read_file(self.path / _LEDGER)

    def append(self, ledger: Ledger, records: Sequence[LedgerRecord]) -> Ledger:
        """Append records durably and return the extended ledger."""
        text, after = ledger.extended(records)
        append_durably(self.path / _LEDGER, text, at=ledger.size)
        return after

    def networks(self) -> list[Network]:
        """Return the networks for which the authority issues."""
        path = self.path / _SETTINGS
        try:
            settings = json.loads(read_file(path))
            version, networks = settings["version"], settings["networks"]
        except (ValueError, KeyError, TypeError):
            raise StoreError(f"{path} is not the settings of an authority: restore a copy") from None
        if version != _VERSION:
            raise StoreError(f"{path} is of version {version}, this program reads {_VERSION}: use the newer program")
        return [parse_network(network) for network in networks]

    def write_networks(self, networks: Sequence[Network]) -> None:
        """Replace the networks for which the authority issues."""
        replace_files({self.path / _SETTINGS: (_settings(networks), 0o644)})

    def add(
        self,
        stem: str,
        ca: CertifiedKey,
        first_list: x509.CertificateRevocationList,
        passphrase: bytes | None = None,
    ) -> None:
        """Write a new CA's certificate, key and first CRL."""
        contents = _ca_contents(stem, ca, first_list, passphrase)
        replace_files({self.path / name: content for name, content in contents.items()})

    def check(self, ca: Ca) -> None:
        """Raise `StoreError` unless the CA's certificate file matches the ledger."""
        path = self.path / f"{ca.stem}.pem"
        try:
            held = read_certificates(read_file(path))
        except ValueError:
            raise StoreError(f"{path} holds no PEM certificate: restore a copy") from None
        if held != [ca.certificate]:
            raise StoreError(f"{path} is not the certificate that the ledger names: restore a copy")

    def key_path(self, ca: Ca) -> Path:
        """Return the path of a CA's key, which may have been moved elsewhere."""
        return self.path / f"{ca.stem}.key"

    def issuer_key(self, ca: Ca) -> CertifiedKey:
        """Load an issuing CA with its key."""
        if not self.key_path(ca).exists():
            raise StoreError(
                f"{self.key_path(ca)} is missing: restore a copy, or replace the issuing CA with `pki rotate-issuer`"
            )
        return _read_key(self.key_path(ca), ca, None)

    def root_key(self, root: Ca, path: Path | None, passphrase: Callable[[], bytes]) -> CertifiedKey:
        """Load a root with its key, from `path` if given; call `passphrase` only if the key is encrypted."""
        here = self.key_path(root) if path is None else path
        if not here.exists():
            raise StoreError(
                f"{here} is missing, and only the root's key can do this: bring it back from where it is kept, "
                "or name it with --root-key"
            )
        return _read_key(here, root, passphrase)

    def remove_key(self, ca: Ca) -> None:
        """Remove the key of a retired issuing CA."""
        remove_file(self.key_path(ca))

    def revocation_list(self, ca: Ca) -> x509.CertificateRevocationList | None:
        """Return the latest CRL of a CA, if it has one."""
        path = self.path / f"{ca.stem}.crl"
        if not path.exists():
            return None
        try:
            return read_lists(read_file(path))[0]
        except ValueError:
            raise StoreError(f"{path} holds no revocation list: remove it, and run `pki crl`") from None

    def write_lists(self, lists: dict[Ca, x509.CertificateRevocationList]) -> None:
        """Replace the CRLs of these CAs."""
        replace_files({self.path / f"{ca.stem}.crl": (pem_of(one), 0o644) for ca, one in lists.items()})


def _ca_contents(
    stem: str, ca: CertifiedKey, first_list: x509.CertificateRevocationList, passphrase: bytes | None
) -> Contents:
    return {
        f"{stem}.key": (private_pem(ca.key, passphrase), 0o400),
        f"{stem}.pem": (pem_of(ca.certificate), 0o644),
        f"{stem}.crl": (pem_of(first_list), 0o644),
    }


def _settings(networks: Iterable[Network]) -> bytes:
    settings = {"version": _VERSION, "networks": [str(network) for network in networks]}
    return json.dumps(settings, indent=2).encode() + b"\n"


def _read_key(path: Path, ca: Ca, passphrase: Callable[[], bytes] | None) -> CertifiedKey:
    pem = read_private(path)
    try:
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except TypeError:
            if passphrase is None:
                raise
            key = serialization.load_pem_private_key(pem, password=passphrase())
    except ValueError:
        cure = "give its passphrase, or restore a copy" if passphrase else "restore a copy"
        raise StoreError(f"{path} cannot be opened as a PEM private key: {cure}") from None
    except TypeError:
        raise StoreError(f"{path} is encrypted, and commands need it unencrypted: restore a copy") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != ca.certificate.public_key():
        raise StoreError(f"{path} is not the key of {ca.certificate.subject.rfc4514_string()}: put its own back")
    return CertifiedKey(ca.certificate, key)
