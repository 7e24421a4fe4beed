"""Certificates for both clusters from one throw-away authority of ours: etcd's members get the same kind as ours."""

from datetime import UTC, datetime
from pathlib import Path

from pki.ca.authority import Authority
from pki.tls.material import TlsFiles
from pki.x509.identity import Role

TRUST_DOMAIN = "bench.local"
HOST = "127.0.0.1"
CLIENT, ADMIN = "client", "admin"


def issue(directory: Path, members: tuple[str, ...]) -> None:
    """Write directory/NAME for every member, a client and an admin."""
    now = datetime.now(UTC)
    authority = Authority.create(TRUST_DOMAIN, now=now)
    for name in members:
        authority.issue(name, Role.COORDINATOR, [HOST], now=now).write(directory)
    authority.issue(CLIENT, Role.CLIENT, now=now).write(directory)
    authority.issue(ADMIN, Role.ADMIN, now=now).write(directory)


def files(directory: Path, name: str) -> TlsFiles:
    """Where the identity of that name lies."""
    return TlsFiles.in_directory(directory / name)
