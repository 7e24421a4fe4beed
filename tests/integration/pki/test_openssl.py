"""Verification of certificates, CRLs and CSRs by the openssl command."""

import shutil
import subprocess
from pathlib import Path

import pytest

from pki.ca.csr import SigningRequest, create_request
from pki.ca.issued import IssuedIdentity
from pki.ca.profiles import PROFILES
from pki.files import TlsFiles
from pki.store.store import CertificateSpec
from pki.x509.identity import Role
from tests.integration.pki.authorities import Place, run
from tests.integration.pki.endpoints import HONEST, NOW
from tests.unit.pki.forgery import HOSTS, refused

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")

BAD = refused(HONEST, NOW, Role.COORDINATOR)


def _verify(issued: IssuedIdentity, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    files = issued.write(directory)
    chain = ["-CAfile", str(files.ca), "-untrusted", str(files.certificate), str(files.certificate)]
    return subprocess.run(
        ["openssl", "verify", "-x509_strict", *options, *chain], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("role", Role)
def test_every_role_verifies_for_its_purposes_only(role: Role, tmp_path: Path) -> None:
    """A strict chain check passes for the usages of the role's profile, and for no other."""
    issued = HONEST.issue("node-1", role, HOSTS, now=NOW)
    stated = {usage._name for usage in PROFILES[role].usages}
    for purpose, usage in (("sslclient", "clientAuth"), ("sslserver", "serverAuth")):
        done = _verify(issued, tmp_path / purpose, "-purpose", purpose)
        assert (done.returncode == 0) is (usage in stated), done.stderr


@pytest.mark.parametrize("host", HOSTS)
def test_hosts_verify(host: str, tmp_path: Path) -> None:
    """Each address and name of a certificate is found by openssl, and another is not."""
    issued = HONEST.issue("node-1", Role.COORDINATOR, HOSTS, now=NOW)
    option = "-verify_hostname" if host == "localhost" else "-verify_ip"
    assert _verify(issued, tmp_path / "same", option, host).returncode == 0
    other = "other.zkp.local" if host == "localhost" else "127.0.0.9"
    assert "mismatch" in _verify(issued, tmp_path / "other", option, other).stderr


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("wrong CA", "unable to get local issuer certificate"),
        ("expired", "certificate has expired"),
        ("not yet valid", "certificate is not yet valid"),
        ("self-signed", "self-signed certificate"),
        ("leaf used as a CA", "invalid CA certificate"),
        ("foreign DNS name", "permitted subtree violation"),
    ],
)
def test_bad_chains_are_refused(case: str, reason: str, tmp_path: Path) -> None:
    """A thief of the issuing key cannot certify another domain: the name constraints bite."""
    roots = BAD["expired"].ca_pem
    bad = BAD[case]
    honest_roots = IssuedIdentity(bad.identity, bad.certificate, bad.certificate_pem, bad.key_pem, roots)
    done = _verify(honest_roots, tmp_path)
    assert done.returncode != 0
    assert reason in done.stderr


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """An authority with a bundle handed out."""
    place = Place.make(tmp_path)
    place.hand_out()
    return place


def _check(files: TlsFiles, place: Place, *options: str) -> subprocess.CompletedProcess[str]:
    """With revocation lists for every certificate of the chain."""
    trust: list[str | Path] = [
        "-CAfile",
        place.ca,
        "-CRLfile",
        place.crl,
        "-crl_check_all",
        "-untrusted",
        files.certificate,
    ]
    return run("openssl", "verify", "-x509_strict", *options, *trust, files.certificate)


def test_revocation_lists_verify_and_bite(place: Place) -> None:
    """openssl accepts the lists for the whole chain, strictly, and refuses who is on one."""
    files = place.issue("worker-1", Role.WORKER)
    other = place.issue("worker-2", Role.WORKER)
    assert _check(files, place).returncode == 0
    place.revoke("worker-1")
    place.hand_out()
    assert "certificate revoked" in _check(files, place).stderr
    assert _check(other, place).returncode == 0
    shown = run("openssl", "crl", "-in", place.crl, "-noout", "-text").stdout
    assert "Key Compromise" in shown
    assert "X509v3 CRL Number" in shown


@pytest.mark.parametrize("root", [False, True])
def test_openssl_agrees_at_every_step_of_a_rotation(place: Place, root: bool) -> None:
    """What was handed out in the first step covers the new leaf; the last step ends the old one."""
    old = place.issue("old", Role.WORKER)
    place.prepare(root=root)
    place.hand_out()
    place.switch()
    new = place.issue("new", Role.WORKER)
    for files in (old, new):
        assert _check(files, place).returncode == 0, _check(files, place).stderr
    place.renew("old")
    before = old.certificate.read_bytes()
    place.finish(root=root)
    place.hand_out()
    assert _check(new, place).returncode == 0
    assert _check(old, place).returncode == 0
    assert old.certificate.read_bytes() == before


@pytest.mark.parametrize(("root", "reason"), [(False, "certificate revoked"), (True, "unable to get")])
def test_old_certificates_are_refused_after_a_rotation(place: Place, root: bool, reason: str) -> None:
    """A leaf that somebody kept from before is revoked, or leads to nobody."""
    files = place.issue("worker-1", Role.WORKER)
    kept = TlsFiles(files.certificate.with_name("kept.pem"), files.key, files.ca)
    kept.certificate.write_bytes(files.certificate.read_bytes())
    place.prepare(root=root)
    place.switch()
    place.renew("worker-1")
    place.finish(root=root)
    place.hand_out()
    done = _check(kept, place)
    assert done.returncode != 0
    assert reason in done.stderr


def test_a_request_of_openssl_is_signed(place: Place, tmp_path: Path) -> None:
    """Hosts without our command can ask, too, and openssl verifies what `pki request` makes."""
    key, csr = tmp_path / "key.pem", tmp_path / "worker-1.csr"
    made = run(
        *("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-keyout", key, "-out", csr, "-subj", "/CN=worker-1", "-addext", "subjectAltName=IP:127.0.0.1"),
    )
    assert made.returncode == 0, made.stderr
    order = CertificateSpec("worker-1", Role.WORKER, ("127.0.0.1",))
    request = SigningRequest.read(csr.read_bytes())
    place.store.sign(request, order, tmp_path / "signed", now=NOW, by="test")
    assert _check(TlsFiles.in_directory(tmp_path / "signed" / "worker-1"), place).returncode == 0
    ours = tmp_path / "ours.csr"
    ours.write_bytes(create_request("worker-2", ["127.0.0.1"]).request_pem)
    assert "verify OK" in run("openssl", "req", "-in", ours, "-verify", "-noout").stderr
