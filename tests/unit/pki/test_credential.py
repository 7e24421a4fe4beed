"""Files of an identity: each problem is one line with the file and the fix."""

import base64
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pki.errors import TlsError
from pki.files import TlsFiles
from pki.tls.credential import Credential, read_private
from pki.x509.identity import Role
from tests.unit.pki.forgery import authority, identity, plain_pem, refused, signed_leaf

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HONEST = authority(NOW)
GOOD = HONEST.issue("worker-1", Role.WORKER, ["127.0.0.1"], now=NOW)
OTHER = HONEST.issue("worker-2", Role.WORKER, ["127.0.0.1"], now=NOW)
REFUSED = refused(HONEST, NOW, Role.WORKER)


@pytest.fixture
def files(tmp_path: Path) -> TlsFiles:
    """A good identity on disk."""
    return GOOD.write(tmp_path)


def test_a_good_identity_is_read(files: TlsFiles) -> None:
    """What the authority wrote is accepted, and names its holder."""
    credential = Credential.read(files, NOW)
    assert credential.identity == identity()
    assert credential == Credential.read(files, NOW)


def _encrypted(files: TlsFiles) -> None:
    key = serialization.load_pem_private_key(GOOD.key_pem, None)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )


def _directory(files: TlsFiles) -> None:
    files.ca.unlink()
    files.ca.mkdir()


def _no_identity(files: TlsFiles) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
    issuer = HONEST.issuer
    leaf = signed_leaf(GOOD, key, issuer.key, issuer.certificate.subject, NOW, names=names)
    files.certificate.write_bytes(leaf.certificate_pem)
    files.key.write_bytes(leaf.key_pem)


BREAKAGES: dict[str, tuple[Callable[[TlsFiles], object], str]] = {
    "no certificate": (
        lambda f: f.certificate.unlink(),
        r"certificate\.pem is missing: make it with `pki issue`",
    ),
    "no key": (lambda f: f.key.unlink(), r"key\.pem is missing"),
    "no roots": (lambda f: f.ca.unlink(), r"ca\.pem is missing"),
    "empty certificate": (
        lambda f: f.certificate.write_bytes(b""),
        r"certificate\.pem holds no PEM certificate",
    ),
    "key as certificate": (
        lambda f: f.certificate.write_bytes(GOOD.key_pem),
        r"certificate\.pem holds no PEM",
    ),
    "certificate as key": (
        lambda f: f.key.write_bytes(GOOD.certificate_pem),
        r"key\.pem holds no PEM private key",
    ),
    "empty roots": (lambda f: f.ca.write_bytes(b"nothing"), r"ca\.pem holds no PEM certificate"),
    "encrypted key": (_encrypted, r"key\.pem is encrypted"),
    "another's key": (
        lambda f: f.key.write_bytes(OTHER.key_pem),
        r"key\.pem is not the key of .*certificate\.pem",
    ),
    "world-readable key": (
        lambda f: f.key.chmod(0o644),
        r"key\.pem is open to others \(mode 0644\): chmod 600",
    ),
    "group-writable key": (lambda f: f.key.chmod(0o660), r"key\.pem is open to others \(mode 0660\)"),
    "no identity": (_no_identity, r"certificate\.pem: certificate carries 0 URIs"),
    "a directory": (_directory, r"ca\.pem: Is a directory"),
}


@pytest.mark.parametrize("case", BREAKAGES)
def test_broken_files_are_one_line_with_the_cure(files: TlsFiles, case: str) -> None:
    """Each mistake of an operator names its file, and shows no key."""
    breakage, reason = BREAKAGES[case]
    breakage(files)
    with pytest.raises(TlsError, match=reason) as caught:
        Credential.read(files, NOW)
    assert "\n" not in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("wrong CA", r"certificate\.pem \(trusted roots: .*ca\.pem\): no trusted root"),
        ("expired", r"certificate\.pem .* expired at .* `pki issue --replace`"),
        ("not yet valid", r"certificate\.pem .* is not valid before .* check this host's clock"),
        ("self-signed", r"no trusted root"),
        ("leaf used as a CA", r"is not a CA"),
        ("foreign trust domain", r"may not certify the trust domain"),
    ],
)
def test_a_certificate_that_peers_would_refuse_is_refused_at_home(tmp_path: Path, case: str, reason: str) -> None:
    """A process learns from its own files what its peers would say."""
    files = replace(REFUSED[case], ca_pem=GOOD.ca_pem).write(tmp_path)
    with pytest.raises(TlsError, match=reason):
        Credential.read(files, NOW)


@pytest.mark.parametrize("key", [ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP521R1())])
def test_keys_that_grpc_cannot_use_are_refused_with_the_reason(
    tmp_path: Path, key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
) -> None:
    """Ed25519 and P-521 leaves would fail in every gRPC handshake."""
    leaf = signed_leaf(GOOD, key, HONEST.issuer.key, HONEST.issuer.certificate.subject, NOW)
    with pytest.raises(TlsError, match=r"gRPC .*refuses .*use P-256 or P-384"):
        Credential.read(leaf.write(tmp_path), NOW)


def test_a_p384_leaf_is_accepted(tmp_path: Path) -> None:
    """The stronger of the two curves works as well."""
    key = ec.generate_private_key(ec.SECP384R1())
    leaf = signed_leaf(GOOD, key, HONEST.issuer.key, HONEST.issuer.certificate.subject, NOW)
    assert Credential.read(leaf.write(tmp_path), NOW).key_pem == plain_pem(key)


@pytest.mark.parametrize(
    ("owner", "mode", "accepted"),
    [
        (0, 0o640, True),
        (0, 0o400, True),
        (0, 0o644, False),
        (0, 0o660, False),
        (1000, 0o600, True),
        (1000, 0o640, False),
    ],
)
def test_a_groups_reading_is_for_roots_keys_only(
    files: TlsFiles, monkeypatch: pytest.MonkeyPatch, owner: int, mode: int, accepted: bool
) -> None:
    """PostgreSQL's rule: 0600, or 0640 when root owns the key."""
    files.key.chmod(mode)
    real = os.fstat

    def fstat(descriptor: int) -> os.stat_result:
        status = list(real(descriptor))
        status[4] = owner  # st_uid
        return os.stat_result(status)

    monkeypatch.setattr("pki.tls.credential.os.fstat", fstat)
    if accepted:
        assert read_private(files.key) == GOOD.key_pem
    else:
        with pytest.raises(TlsError, match="open to others"):
            read_private(files.key)


def test_a_file_that_may_not_be_read_says_so(files: TlsFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing permission is not taken for a missing file."""

    def forbidden(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(TlsError, match=r"certificate\.pem may not be read by this user"):
        Credential.read(files, NOW)


def _pem(label: str, der: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n".encode()


@settings(
    deadline=None,
    derandomize=True,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # every example writes its own files
)
@given(st.sampled_from(["leaf", "issuer", "root", "list"]), st.integers(0, 700), st.integers(0, 255))
@example("leaf", 12, 77)  # another version
@example("root", 17, 0x80)  # a negative serial number
def test_damaged_files_are_one_line_or_harmless(tmp_path: Path, which: str, place: int, value: int) -> None:
    """A byte changed anywhere in a certificate or list is refused in one line, or changes nothing that counts."""
    crl = HONEST.crl((), number=1, now=NOW)
    parts = {
        name: bytearray(signed.public_bytes(serialization.Encoding.DER))
        for name, signed in (
            ("leaf", GOOD.certificate),
            ("issuer", HONEST.issuer.certificate),
            ("root", HONEST.roots[0]),
            ("list", crl),
        )
    }
    parts[which][place % len(parts[which])] = value
    leaf, issuer, root = (_pem("CERTIFICATE", bytes(parts[name])) for name in ("leaf", "issuer", "root"))
    damaged = replace(
        GOOD, certificate_pem=leaf + issuer, ca_pem=root, crl_pem=_pem("X509 CRL", bytes(parts["list"]))
    )
    files = damaged.write(tmp_path, replace=True)
    try:
        assert Credential.read(files, NOW).identity == identity()
    except TlsError as error:
        assert "\n" not in str(error)  # noqa: PT017  # a refusal is one outcome of two


def test_no_repr_shows_the_key(files: TlsFiles) -> None:
    """A credential can be logged."""
    assert "PRIVATE" not in repr(Credential.read(files, NOW))
