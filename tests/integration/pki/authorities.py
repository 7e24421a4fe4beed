"""Authorities on disk for tests with third-party programs, which verify against the real clock."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pki.ca.authority import Authority
from pki.ca.signing import pem_of
from pki.checks.inspection import read_chain
from pki.files import TlsFiles
from pki.store import rotation
from pki.store.rotation import RootKey
from pki.store.store import AuthorityStore, CertificateSpec
from pki.x509.crl import Reason
from pki.x509.identity import Role
from tests.unit.pki.forgery import AGE

TRUST_DOMAIN = "zkp.local"
HOSTS = ("127.0.0.1", "localhost")
BY = "test"


def never() -> bytes:
    """The passphrase of a key that has none."""
    raise AssertionError("asked for a passphrase")


@dataclass
class Place:
    """An authority, and where what it hands out is put."""

    path: Path
    store: AuthorityStore

    @classmethod
    def make(cls, path: Path, authority: Authority | None = None) -> "Place":
        """A new authority, or this one, that was made some time ago."""
        born = datetime.now(UTC) - AGE
        authority = authority or Authority.create(TRUST_DOMAIN, now=born)
        return cls(path, AuthorityStore.create(path / "ca", authority, passphrase=None, now=born, by=BY))

    @property
    def ca(self) -> Path:
        """The roots that everybody trusts, as of the last `hand_out`."""
        return self.path / "dist" / "ca.pem"

    @property
    def crl(self) -> Path:
        """The revocation lists, as of the last `hand_out`."""
        return self.path / "dist" / "crl.pem"

    def roots(self) -> list[bytes]:
        """The PEM text of each root, as of the last `hand_out`."""
        return [pem_of(root) for root in read_chain(self.ca)]

    def hand_out(self) -> None:
        """What `pki bundle` does."""
        self.store.write_bundle(self.path / "dist", now=datetime.now(UTC), by=BY)

    def issue(self, name: str, role: Role, hosts: Sequence[str] = HOSTS) -> TlsFiles:
        """A new member's files."""
        order = CertificateSpec(name, role, tuple(hosts))
        self.store.issue([order], self.path / "certs", now=datetime.now(UTC), by=BY)
        return TlsFiles.in_directory(self.path / "certs" / name)

    def renew(self, name: str) -> None:
        """New files in their place."""
        self.store.renew([name], self.path / "certs", now=datetime.now(UTC), by=BY)

    def revoke(self, name: str) -> None:
        """Take every certificate of a member back."""
        now = datetime.now(UTC)
        self.store.revoke(self.store.find(name, now), Reason.KEY_COMPROMISE, now=now, by=BY)

    def prepare(self, *, root: bool) -> None:
        """The first step of a rotation."""
        if root:
            rotation.prepare_root(self.store, None, now=datetime.now(UTC), by=BY)
        else:
            rotation.prepare_issuer(self.store, RootKey(never), now=datetime.now(UTC), by=BY)

    def switch(self) -> None:
        """The second step."""
        rotation.switch(self.store, now=datetime.now(UTC), by=BY)

    def finish(self, *, root: bool) -> None:
        """The last step."""
        if root:
            rotation.finish_root(self.store, now=datetime.now(UTC), by=BY)
        else:
            rotation.finish_issuer(self.store, RootKey(never), now=datetime.now(UTC), by=BY)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A program's exit code and what it said."""
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, timeout=60)
