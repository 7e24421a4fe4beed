"""Certificates on hosts as they will be in some days: the same name and key, signed again with an earlier begin."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from pki.ca.profiles import LEAF_LIFE
from pki.store.store import AuthorityStore
from tests.hosts.host import Host

RENEWABLE = LEAF_LIFE * 0.75
"""An age at which every certificate is within its renewal window, and none has expired."""
PREPARED = LEAF_LIFE * 0.5
"""An age at which the playbook prepares a renewal, and no host takes it into use yet."""
EXPIRED = LEAF_LIFE + timedelta(days=1)


def directories(host: Host) -> list[str]:
    """Of every identity that the host has, as absolute paths."""
    return [path.rpartition("/")[0] for path in host.run("ls /etc/zkp/pki/*/certificate.pem").split()]


def age(host: Host, directory: str, authority: Path, days: timedelta) -> None:
    """Make the certificate of an identity on a host so old; the next one, if it lies ready, is left alone."""
    aged = _aged(host.run(f"cat {directory}/certificate.pem").encode(), authority, days).decode()
    _replace(host, f"{directory}/certificate.pem", aged)
    combined = f"{directory}/combined.pem"
    if host.ssh(f"sudo -n test -e {combined}").returncode == 0:
        # There and not from here: sudo writes the words of its commands into the journal.
        host.run(f"cat {directory}/certificate.pem {directory}/key.pem > {combined}")


def age_here(identity: Path, authority: Path, days: timedelta) -> None:
    """The same on this machine, for the operator's own."""
    path = identity / "certificate.pem"
    path.write_bytes(_aged(path.read_bytes(), authority, days))


def serial(host: Host, directory: str) -> int:
    """Of the certificate that an identity has now."""
    return x509.load_pem_x509_certificate(host.run(f"cat {directory}/certificate.pem").encode()).serial_number


def _replace(host: Host, path: str, text: str) -> None:
    """With the owner and mode of what was there."""
    host.run(f"cat > {path} <<'END'\n{text.strip()}\nEND")


def _aged(chain: bytes, authority: Path, days: timedelta) -> bytes:
    leaf, *issuers = x509.load_pem_x509_certificates(chain)
    issuer = AuthorityStore.open(authority).authority.issuer
    begin = datetime.now(UTC) - days
    builder = x509.CertificateBuilder(
        subject_name=leaf.subject,
        issuer_name=leaf.issuer,
        public_key=leaf.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=begin.replace(microsecond=0),
        not_valid_after=(begin + LEAF_LIFE).replace(microsecond=0),
    )
    for extension in leaf.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    signed = builder.sign(issuer.key, hashes.SHA384())
    return b"".join(each.public_bytes(Encoding.PEM) for each in (signed, *issuers))
