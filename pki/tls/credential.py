"""Content of an identity's files, read once and checked before use.

Each error is one line: the file, the problem and the fix. No error or repr contains a key.
"""

import os
import stat
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from pki.errors import AuthorityError, ChainError, IdentityError, RevocationError, TlsError
from pki.files import TlsFiles
from pki.x509.chain import check_validity, verify_chain
from pki.x509.crl import RevocationLists
from pki.x509.identity import Identity, identity_of
from pki.x509.keys import check_leaf_key
from pki.x509.parsing import read_certificates


@dataclass(frozen=True, slots=True)
class Credential:
    """Checked key and certificates of an identity. Two are equal when their files hold the same bytes."""

    identity: Identity = field(compare=False)
    leaf: x509.Certificate = field(compare=False)
    certificate_pem: bytes
    key_pem: bytes = field(repr=False)
    ca_pem: bytes
    crl_pem: bytes | None
    issuers: tuple[x509.Certificate, ...] = field(compare=False)  # own issuing CA first, then every trusted root
    revocations: RevocationLists | None = field(compare=False)

    @classmethod
    def read(cls, files: TlsFiles, now: datetime) -> Self:
        """Read and check the files; raise `TlsError` if they cannot be used."""
        certificate_pem = _read(files.certificate)
        ca_pem = _read(files.ca)
        crl_pem = _read_crl(files.crl)
        key_pem = read_private(files.key)
        leaf, *issuers = _certificates(files.certificate, certificate_pem)
        roots = _certificates(files.ca, ca_pem)
        key = _private_key(files.key, key_pem)
        _check_key(files.certificate, leaf)
        if key.public_key() != leaf.public_key():
            raise TlsError(
                f"{files.key} is not the key of {files.certificate}: issue both together, or put both back"
            )
        try:
            check_validity(leaf, now)
            identity = identity_of(leaf)
            _, *path = verify_chain(leaf, issuers, roots, now)
        except IdentityError as error:
            raise TlsError(f"{files.certificate}: {error}") from None
        except ChainError as error:
            raise TlsError(f"{files.certificate} (trusted roots: {files.ca}): {error}") from None
        trusted = tuple(dict.fromkeys((*path, *roots)))
        revocations = None if crl_pem is None else _revocations(files, crl_pem, leaf, trusted, now)
        return cls(identity, leaf, certificate_pem, key_pem, ca_pem, crl_pem, trusted, revocations)


def read_private(path: Path) -> bytes:
    """Return the bytes of a key file; raise `TlsError` if other users can read it.

    The rule is PostgreSQL's for `ssl_key_file`: 0600, or 0640 if root owns it, so that the service's group can read
    it.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read()
    except OSError as error:
        raise _unreadable(path, error) from None
    forbidden = 0o037 if status.st_uid == 0 else 0o077
    if status.st_mode & forbidden:
        mode = stat.S_IMODE(status.st_mode)
        raise TlsError(f"{path} is open to others (mode {mode:04o}): chmod 600 it, or 640 when root owns it")
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None


def _read_crl(path: Path | None) -> bytes | None:
    """Read the CRLs; a missing file is not an error, because a network without revocations has none."""
    return _read(path) if path is not None and path.exists() else None


def _revocations(
    files: TlsFiles, pem: bytes, leaf: x509.Certificate, issuers: tuple[x509.Certificate, ...], now: datetime
) -> RevocationLists:
    try:
        found = RevocationLists.read(pem)
        found.check(issuers, now)
    except RevocationError as error:
        raise TlsError(f"{files.crl} {error}") from None
    for certificate in (leaf, *issuers):
        if certificate.serial_number in found.serials:
            who = certificate.subject.rfc4514_string()
            raise TlsError(f"{files.certificate}: {who} is revoked by {files.crl}: issue a new one with `pki issue`")
    return found


def _unreadable(path: Path, error: OSError) -> TlsError:
    if isinstance(error, FileNotFoundError):
        return TlsError(f"{path} is missing: make it with `pki issue`, or correct the path")
    if isinstance(error, PermissionError):
        return TlsError(f"{path} may not be read by this user: give it to the service's user or group")
    return TlsError(f"{path}: {error.strerror or error}")


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return read_certificates(pem)
    except ValueError:
        raise TlsError(f"{path} holds no PEM certificate that can be read: write it again with `pki issue`") from None


def _private_key(path: Path, pem: bytes) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(pem, password=None)
    except TypeError:
        raise TlsError(f"{path} is encrypted: daemons need it plain, protected by its mode") from None
    except (ValueError, UnsupportedAlgorithm):
        raise TlsError(f"{path} holds no PEM private key: write it again with `pki issue`") from None


def _check_key(path: Path, leaf: x509.Certificate) -> None:
    try:
        check_leaf_key(leaf.public_key())
    except AuthorityError as error:
        raise TlsError(f"{path} has {error}") from None
