"""What the openssl command says about our certificates, so that not only our own code vouches for them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from pki.identity import Role
from pki.issued import Issued
from pki.profiles import PROFILES
from tests.integration.pki.endpoints import HONEST, NOW
from tests.unit.pki.forgery import HOSTS, refused

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")

BAD = refused(HONEST, NOW, Role.COORDINATOR)


def _verify(issued: Issued, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
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
        ("foreign trust domain", "permitted subtree violation"),
    ],
)
def test_bad_chains_are_refused(case: str, reason: str, tmp_path: Path) -> None:
    """A thief of the issuing key cannot certify another domain: the name constraints bite."""
    roots = BAD["expired"].ca_pem
    bad = BAD[case]
    honest_roots = Issued(bad.identity, bad.certificate, bad.certificate_pem, bad.key_pem, roots)
    done = _verify(honest_roots, tmp_path)
    assert done.returncode != 0
    assert reason in done.stderr
