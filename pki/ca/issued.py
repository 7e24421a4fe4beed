"""Issued identities as PEM, and their layout on disk.

NAME/certificate.pem   the leaf, then the issuing CA
NAME/key.pem           0600; present only on the host if the host made the key
NAME/ca.pem            every trusted root
NAME/crl.pem           the CRLs, if the authority has any
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from pki.errors import StoreError
from pki.files import Contents, TlsFiles, create_directories, replace_files
from pki.tls.credential import read_private
from pki.x509.identity import Identity
from pki.x509.keys import private_pem


@dataclass(frozen=True, slots=True)
class IssuedIdentity:
    """Certificate with its key and the trusted roots."""

    identity: Identity
    certificate: x509.Certificate
    certificate_pem: bytes  # the leaf, then the issuing CA
    key_pem: bytes = field(repr=False)
    ca_pem: bytes  # every trusted root
    crl_pem: bytes | None = None

    def write(self, directory: Path, *, replace: bool = False) -> TlsFiles:
        """Write `directory/NAME/`, all or nothing.

        Raises `StoreError` when NAME exists, unless `replace` permits to overwrite its key.
        """
        write_all([self], directory, replace=replace)
        return TlsFiles.in_directory(directory / self.identity.name)

    def contents(self) -> Contents:
        """File names with what goes into them, in the order in which they are replaced."""
        return {**_public(self.ca_pem, self.crl_pem), "key.pem": (self.key_pem, 0o600)} | {
            "certificate.pem": (self.certificate_pem, 0o644)
        }


@dataclass(frozen=True, slots=True)
class IssuedCertificate:
    """Certificate for a key that is stored elsewhere, and the trusted roots."""

    identity: Identity
    certificate: x509.Certificate
    certificate_pem: bytes
    ca_pem: bytes
    crl_pem: bytes | None

    def with_key(self, key: ec.EllipticCurvePrivateKey) -> IssuedIdentity:
        """Return the certificate together with its key."""
        return IssuedIdentity(
            self.identity, self.certificate, self.certificate_pem, private_pem(key), self.ca_pem, self.crl_pem
        )

    def check_place(self, directory: Path) -> None:
        """Raise `StoreError` when `directory/NAME/` holds the key of another certificate."""
        key = directory / self.identity.name / "key.pem"
        if not key.exists():
            return
        try:
            held = serialization.load_pem_private_key(read_private(key), password=None).public_key()
        except (ValueError, TypeError):
            held = None
        if held != self.certificate.public_key():
            raise StoreError(
                f"{key} is not the key that was certified: its owner keeps it; choose another place with --out"
            )

    def write(self, directory: Path) -> TlsFiles:
        """Write `directory/NAME/` without a key; an existing key must belong to the certificate."""
        self.check_place(directory)
        write_all([self], directory, replace=True)
        return TlsFiles.in_directory(directory / self.identity.name)

    def contents(self) -> Contents:
        """File names with what goes into them, in the order in which they are replaced."""
        return {**_public(self.ca_pem, self.crl_pem), "certificate.pem": (self.certificate_pem, 0o644)}


def write_all(made: Sequence[IssuedIdentity | IssuedCertificate], directory: Path, *, replace: bool = False) -> None:
    """Write each to `directory/NAME/`.

    New directories appear atomically, files of existing ones are replaced together.

    Raises `StoreError`, also when NAME exists and `replace` is false.
    """
    targets = {directory / one.identity.name: one.contents() for one in made}
    there = {target: new for target, new in targets.items() if replace and target.is_dir()}
    create_directories({target: new for target, new in targets.items() if target not in there}, mode=0o755)
    replace_files({target / name: file for target, new in there.items() for name, file in new.items()})


def _public(ca_pem: bytes, crl_pem: bytes | None) -> Contents:
    lists: Contents = {} if crl_pem is None else {"crl.pem": (crl_pem, 0o644)}
    return {"ca.pem": (ca_pem, 0o644), **lists}
