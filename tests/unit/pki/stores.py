"""Authorities on disk for tests: created once in memory, written quickly."""

from datetime import UTC, datetime
from pathlib import Path

from pki.ca.authority import Authority
from pki.checks.inspection import read_chain
from pki.files import TlsFiles
from pki.store.rotation import RootKey
from pki.store.store import AuthorityStore, CertificateSpec
from pki.x509.chain import verify_chain
from pki.x509.identity import Role

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
BY = "ann@ca"
HOSTS = ("127.0.0.1", "localhost")
WORKER = CertificateSpec("worker-1", Role.WORKER, HOSTS)
OTHER = CertificateSpec("worker-2", Role.WORKER, HOSTS)
COORDINATOR = CertificateSpec("coordinator-1", Role.COORDINATOR, HOSTS)
_AUTHORITY = Authority.create("zkp.local", now=NOW)


def new_store(directory: Path, passphrase: bytes | None = None) -> AuthorityStore:
    """An authority whose root key has this passphrase."""
    return AuthorityStore.create(directory, _AUTHORITY, passphrase=passphrase, now=NOW, by=BY)


def never() -> bytes:
    """A passphrase that nobody may ask for."""
    raise AssertionError("asked for a passphrase")


PLAIN = RootKey(never)
"""The root's key in the authority's directory, without a passphrase."""


def trusts(files: TlsFiles, ca: Path, now: datetime = NOW) -> bool:
    """Whether who has these roots finds a path for this certificate."""
    leaf, *issuers = read_chain(files.certificate)
    try:
        verify_chain(leaf, issuers, read_chain(ca), now)
    except Exception:  # noqa: BLE001  # any reason will do
        return False
    return True
