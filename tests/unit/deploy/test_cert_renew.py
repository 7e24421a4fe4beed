"""A host's half of renewal: what is asked for, when it is taken into use, and what is never touched."""

import grp
import importlib
import json
import os
import pwd
import stat
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pki.ca.authority import Authority
from pki.ca.csr import SigningRequest, create_request
from pki.ca.signing import pem_of
from pki.files import TlsFiles
from pki.tls.credential import Credential
from pki.x509.compatibility import lacks_dns_name
from pki.x509.identity import Role
from pki.x509.name_constraints import parse_network
from tests.unit.deploy.programs import program
from tests.unit.pki.forgery import old_leaf

renew = program("pki", "zkp_cert_renew")
START = datetime(2026, 11, 1, tzinfo=UTC)
ADDRESS = "192.168.1.10"


@dataclass
class Host:
    """A host with one identity, and the authority on the other side."""

    root: Path
    authority: Authority

    @property
    def manifest_path(self) -> Path:
        return self.root / "renewal" / "coordinator-1.json"

    @property
    def manifest(self) -> Any:
        return renew.Manifest.read(self.manifest_path)

    @property
    def directory(self) -> Path:
        return self.root / "pki"

    def describe(self, **changes: object) -> None:
        said = {
            "name": "coordinator-1",
            "role": "coordinator",
            "hosts": [ADDRESS],
            "directory": str(self.directory),
            "owner": pwd.getpwuid(os.geteuid()).pw_name,
            "group": grp.getgrgid(os.getegid()).gr_name,
            "combined": False,
            "reload": ["touch", str(self.root / "reloaded")],
        } | changes
        self.manifest_path.write_text(json.dumps(said), "utf-8")

    def prepare(self, now: datetime, *, dry_run: bool = False) -> dict[str, object]:
        return dict(renew.prepare(self.manifest, now, dry_run=dry_run))

    def sign(self, now: datetime) -> None:
        """What the controller does with a request."""
        asked = SigningRequest.read((self.directory / "next" / "request.csr").read_bytes())
        leaf = self.authority.certify(asked.key, "coordinator-1", Role.COORDINATOR, sorted(asked.hosts), now=now)
        certified = self.authority.deliver(leaf)
        (self.directory / "next" / "certificate.pem").write_bytes(certified.certificate_pem)

    def install(self, now: datetime) -> bool:
        return bool(renew.install(self.manifest, now))

    def key(self) -> bytes:
        return (self.directory / "key.pem").read_bytes()


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "renewal").mkdir()
    (tmp_path / "pki").mkdir()
    made = Host(tmp_path, Authority.create("zkp.test", now=START, networks=[parse_network("192.168.1.0/24")]))
    (tmp_path / "renewal" / "ca.pem").write_bytes(pem_of(*made.authority.roots))
    made.describe()
    return made


@pytest.fixture
def certified(host: Host) -> Host:
    host.prepare(START)
    host.sign(START)
    host.install(START)
    return host


def test_first(host: Host) -> None:
    """A host without a certificate asks for one with a key that is made there, and uses it at once."""
    assert host.prepare(START)["wanted"]
    host.sign(START)
    assert host.install(START)
    held = Credential.read(TlsFiles.in_directory(host.directory), START)
    assert held.identity.name == "coordinator-1"
    assert stat.S_IMODE((host.directory / "key.pem").stat().st_mode) & 0o037 == 0
    assert not (host.directory / "next").exists()


def test_nothing_to_do(certified: Host) -> None:
    """In the first third of a certificate's life nothing is asked for and nothing changes."""
    later = START + timedelta(days=9)
    assert certified.prepare(later) == {"changed": False, "wanted": False, "reason": "", "request": ""}
    assert not certified.install(later)


def test_lies_ready(certified: Host) -> None:
    """After a third a renewal is signed ahead, and stays unused until two thirds are over."""
    key, ahead = certified.key(), START + timedelta(days=11)
    assert certified.prepare(ahead)["wanted"]
    certified.sign(ahead)
    assert not certified.install(ahead)
    assert not certified.prepare(ahead)["wanted"]
    assert certified.key() == key
    assert certified.install(START + timedelta(days=21))
    assert certified.key() != key


def test_keep(certified: Host) -> None:
    """One call of the playbook asks where something is wanted, and otherwise takes into use what is due."""
    ahead, due = START + timedelta(days=11), START + timedelta(days=20.5)
    assert renew.keep(certified.manifest, ahead, dry_run=False)["wanted"]
    certified.sign(ahead)
    key = certified.key()
    assert not renew.keep(certified.manifest, ahead, dry_run=False)["changed"]
    assert renew.keep(certified.manifest, due, dry_run=True)["changed"] is False
    assert certified.key() == key
    assert renew.keep(certified.manifest, due, dry_run=False)["changed"]
    assert certified.key() != key


def test_after_expiry(certified: Host) -> None:
    """A certificate that has expired is replaced as soon as another is signed."""
    late = START + timedelta(days=40)
    assert certified.prepare(late)["wanted"]
    certified.sign(late)
    assert certified.install(late)


def test_new_address(certified: Host) -> None:
    """A host that is to be dialled at another address gets a certificate for it at once."""
    certified.describe(hosts=[ADDRESS, "192.168.1.99"])
    asked = certified.prepare(START)
    assert asked["wanted"]
    assert "192.168.1.99" in str(asked["reason"])
    certified.sign(START)
    assert certified.install(START)


def test_before_dns_names(certified: Host) -> None:
    """A certificate without the DNS name of its identity is good until another is signed, which is used at once."""
    old = old_leaf(certified.authority, "coordinator-1", Role.COORDINATOR, [ADDRESS], now=START)
    old.write(certified.root / "old")
    for name in ("key.pem", "certificate.pem"):
        (certified.directory / name).write_bytes((certified.root / "old" / "coordinator-1" / name).read_bytes())
    assert not certified.install(START)
    asked = certified.prepare(START)
    assert asked["wanted"]
    assert "lacks the DNS name coordinator-1.zkp.test" in str(asked["reason"])
    assert not certified.install(START)
    certified.sign(START)
    assert certified.install(START)
    assert not certified.prepare(START)["wanted"]
    held = Credential.read(TlsFiles.in_directory(certified.directory), START)
    assert not lacks_dns_name(held.leaf)


def test_ready_before_dns_names(certified: Host) -> None:
    """A renewal that was signed without the DNS name is replaced where that is possible, and used where it is due."""
    ahead, due = START + timedelta(days=11), START + timedelta(days=21)
    certified.prepare(ahead)
    old = old_leaf(certified.authority, "coordinator-1", Role.COORDINATOR, [ADDRESS], now=ahead)
    pair = {"key.pem": old.key_pem, "certificate.pem": old.certificate_pem}
    for name, data in pair.items():
        (certified.directory / "next" / name).write_bytes(data)
    assert certified.prepare(ahead, dry_run=True)["wanted"]
    assert not certified.install(ahead)
    late = old_leaf(certified.authority, "coordinator-1", Role.COORDINATOR, [ADDRESS], now=due)
    (certified.directory / "next" / "key.pem").write_bytes(late.key_pem)
    (certified.directory / "next" / "certificate.pem").write_bytes(late.certificate_pem)
    assert certified.install(due)


def test_asks_once(host: Host) -> None:
    """A run that was interrupted before the signature goes on with the same key and request."""
    first = host.prepare(START)
    key = (host.directory / "next" / "key.pem").read_bytes()
    again = host.prepare(START)
    assert (first["changed"], again["changed"]) == (True, False)
    assert again["request"] == first["request"]
    assert (host.directory / "next" / "key.pem").read_bytes() == key


def test_the_spelling_of_an_address_is_no_reason_to_ask(host: Host) -> None:
    """An IPv6 address in a long spelling, as an inventory may have it, is what request and certificate carry."""
    host.describe(hosts=["0:0:0:0:0:0:0:1", "N1.ZKP.TEST"])
    request = host.prepare(START)["request"]
    again = host.prepare(START)
    assert (again["changed"], again["request"]) == (False, request)
    host.sign(START)
    assert host.install(START)
    assert not host.prepare(START)["wanted"]


def test_dry_run(host: Host) -> None:
    """A check says that a certificate is wanted, and makes nothing."""
    assert host.prepare(START, dry_run=True)["changed"]
    assert not (host.directory / "next").exists()


def test_interrupted_between_the_files(certified: Host) -> None:
    """A crash between key and certificate is made good by the next look."""
    ahead, due = START + timedelta(days=11), START + timedelta(days=21)
    certified.prepare(ahead)
    certified.sign(ahead)
    new = (certified.directory / "next" / "key.pem").read_bytes()
    renew._replace(certified.manifest, "key.pem", new)
    assert certified.install(due)
    assert Credential.read(TlsFiles.in_directory(certified.directory), due).key_pem == new


def test_wrong_certificate(certified: Host) -> None:
    """What is no renewal of this identity is refused, and what is in use stays."""
    ahead, due, key = START + timedelta(days=11), START + timedelta(days=21), certified.key()
    certified.prepare(ahead)
    other = certified.authority.issue("coordinator-1", Role.COORDINATOR, [ADDRESS], now=ahead)
    (certified.directory / "next" / "certificate.pem").write_bytes(other.certificate_pem)
    with pytest.raises(renew.PkiError, match=r"key\.pem"):
        certified.install(due)
    assert certified.key() == key


def test_reload_only_on_change(certified: Host) -> None:
    """The users of the files are told when something changed, and only then."""
    marker = certified.root / "reloaded"
    marker.unlink()
    certified.install(START)
    assert not marker.exists()
    (certified.root / "renewal" / "ca.pem").write_bytes(pem_of(*certified.authority.roots) + b"\n")
    certified.install(START)
    assert marker.exists()


def test_loose_key(certified: Host) -> None:
    """A key whose mode was loosened is put right."""
    (certified.directory / "key.pem").chmod(0o644)
    certified.install(START)
    assert stat.S_IMODE((certified.directory / "key.pem").stat().st_mode) & 0o037 == 0


def test_combined(host: Host) -> None:
    """Where it is asked for, certificate and key are also in one file that is as private as the key."""
    host.describe(combined=True)
    host.prepare(START)
    host.sign(START)
    host.install(START)
    combined = host.directory / "combined.pem"
    assert combined.read_bytes() == (host.directory / "certificate.pem").read_bytes() + host.key()
    assert stat.S_IMODE(combined.stat().st_mode) & 0o037 == 0


def test_urgent(certified: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """A due renewal that has not come is a warning, and a failure once five days are left."""
    assert not renew._warn(certified.manifest, START + timedelta(days=19 * 0.9))
    assert not renew._warn(certified.manifest, START + timedelta(days=21))
    assert "no renewal lies ready" in capsys.readouterr().err
    assert renew._warn(certified.manifest, START + timedelta(days=26))


def test_broken_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A manifest that cannot be read is one line, and the exit status 1."""
    path = tmp_path / "worker-1.json"
    path.write_text("{}", "utf-8")
    assert renew.main(["keep", str(path)]) == 1
    assert "worker-1.json is no manifest" in capsys.readouterr().err


def test_it_runs_with_a_release_from_before_the_packages_of_pki(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The playbook replaces this program before the release: it works with the module names of 0.1 too."""
    former = {
        "pki.credential": "pki.tls.credential",
        "pki.identity": "pki.x509.identity",
        "pki.inspection": "pki.checks.inspection",
        "pki.profiles": "pki.ca.profiles",
        "pki.revocation": "pki.x509.crl",
        "pki.scope": "pki.x509.name_constraints",
    }
    for name, now in former.items():
        monkeypatch.setitem(sys.modules, name, importlib.import_module(now))
    requests = ModuleType("pki.requests")
    vars(requests).update(Request=SigningRequest, ask=create_request)
    monkeypatch.setitem(sys.modules, "pki.requests", requests)
    monkeypatch.setitem(sys.modules, "pki.ca.csr", None)  # importing it fails

    older = program("pki", "zkp_cert_renew")

    assert older.SigningRequest is SigningRequest
    assert (
        "BEGIN CERTIFICATE REQUEST"
        in older.prepare(older.Manifest.read(host.manifest_path), START, dry_run=False)["request"]
    )
