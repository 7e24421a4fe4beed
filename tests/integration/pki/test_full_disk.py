"""Full, read-only and limited disks: clear errors and no data loss, on real file systems of a few KiB."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pki.checks import audit
from pki.store.store import AuthorityStore
from pki.tls.material import TlsFiles, TlsMaterial
from tests.integration.pki.authorities import run

INIT = ("--trust-domain", "zkp.local", "--no-passphrase", "--development")


def _pki(*argv: str | Path) -> tuple[int, str]:
    """Exit code, and the one line of error."""
    done = run(sys.executable, "-m", "pki", *argv)
    assert done.stderr.count("\n") <= 1, done.stderr
    return done.returncode, done.stderr


def _issue(name: str, ca: Path, out: Path) -> tuple[int, str]:
    return _pki("issue", name, "--role", "worker", "-a", ca, "--out", out)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system")
    done = run("mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", place)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a small file system here: {done.stderr.strip()}")
    yield place
    run("umount", place)


def _fill(place: Path) -> Path:
    """Take what is left."""
    filler = place / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 512)
        except OSError:
            return filler


def test_an_authority_is_not_half_made_on_a_full_disk(small: Path) -> None:
    """Init says that there is no space, and leaves nothing that looks like an authority."""
    filler = _fill(small)
    code, error = _pki("init", small / "ca", *INIT)
    assert (code, "No space left on device" in error) == (1, True)
    assert list(small.iterdir()) == [filler]
    filler.unlink()
    assert _pki("init", small / "ca", *INIT) == (0, "")


def test_what_cannot_be_recorded_does_not_leave(small: Path, tmp_path: Path) -> None:
    """With the authority's disk full nothing is issued; with space again everything goes on."""
    ca = small / "ca"
    _pki("init", ca, *INIT)
    filler = _fill(small)
    # ten lines are more than what may be free behind the last one, on its own page
    (tmp_path / "hosts.yml").write_text(f"workers: {{hosts: {{{', '.join(f'w{n}: ' for n in range(10))}}}}}")
    issue = ("issue", "--inventory", tmp_path / "hosts.yml", "-a", ca, "--out", tmp_path / "out")
    code, error = _pki(*issue)
    assert code == 1
    assert "ledger.jsonl: No space left on device; free some space, then try again; nothing was recorded" in error
    assert not (tmp_path / "out").exists()
    filler.unlink()
    assert _pki(*issue) == (0, "")
    TlsMaterial.load(TlsFiles.in_directory(tmp_path / "out" / "worker-w9"))
    store = AuthorityStore.open(ca)
    assert list(audit.faults(store, store.records()[-1].at)) == []


def test_a_revocation_on_a_full_disk_is_completed_by_the_same_command(small: Path) -> None:
    """With space for nothing, for the ledger alone, and for both: the error says just what is recorded."""
    ca = small / "ca"
    _pki("init", ca, *INIT)
    _issue("worker-1", ca, small)
    filler = _fill(small)
    message = "has recorded: revoked worker-1; the revocation list of issuer is missing: run this command again"
    recorded: list[bool] = []
    for _ in range(4):
        done = run(sys.executable, "-m", "pki", "revoke", "worker-1", "-a", ca)
        if done.returncode == 0:
            break
        recorded.append(bool(AuthorityStore.open(ca).register.revocations))
        first_time = recorded.count(True) == 1
        assert (message in done.stderr) is (recorded[-1] and first_time), done.stderr
        assert ("nothing was recorded or changed" in done.stderr) is not (recorded[-1] and first_time), done.stderr
        os.truncate(filler, filler.stat().st_size - resource.getpagesize())
    assert done.returncode == 0
    assert True in recorded
    assert "the revocation list lacked this, and is signed again" in done.stdout
    store = AuthorityStore.open(ca)
    assert list(audit.faults(store, store.records()[-1].at)) == []


def test_a_full_target_keeps_the_old_pair(small: Path, tmp_path: Path) -> None:
    """A renewal onto a full disk fails, and what was there before still loads."""
    ca = tmp_path / "ca"
    _pki("init", ca, *INIT)
    _issue("worker-1", ca, small)
    before = TlsMaterial.load(TlsFiles.in_directory(small / "worker-1")).certificate
    filler = _fill(small)
    code, error = _pki("renew", "worker-1", "-a", ca, "--out", small)
    assert (code, "No space left on device" in error) == (1, True)
    assert TlsMaterial.load(TlsFiles.in_directory(small / "worker-1")).certificate == before
    assert sorted(path.name for path in (small / "worker-1").iterdir()) == [
        *("ca.pem", "certificate.pem", "crl.pem", "key.pem")
    ]
    filler.unlink()
    assert _pki("renew", "worker-1", "-a", ca, "--out", small) == (0, "")
    assert TlsMaterial.load(TlsFiles.in_directory(small / "worker-1")).certificate != before


def test_a_read_only_disk_can_be_looked_at(small: Path, tmp_path: Path) -> None:
    """Listing and auditing work; whatever writes says what is wrong with the disk."""
    ca = small / "ca"
    _pki("init", ca, *INIT)
    _issue("worker-1", ca, tmp_path / "out")
    assert run("mount", "-o", "remount,ro", small).returncode == 0
    for command in ("list", "status", "audit"):
        assert _pki(command, "-a", ca) == (0, "")
    assert _pki("bundle", "-a", ca, "--out", tmp_path / "dist") == (0, "")
    for code, error in (_issue("worker-2", ca, tmp_path / "out"), _pki("revoke", "worker-1", "-a", ca)):
        assert code == 1
        assert "Read-only file system: mount it writable, or name another place" in error
    code, error = _pki("init", small / "other", *INIT)
    assert (code, "Read-only file system" in error) == (1, True)


def test_a_limit_on_file_sizes_is_told_apart(tmp_path: Path) -> None:
    """A ledger that may not grow further is an error with the limit's name, and stays whole."""
    ca = tmp_path / "ca"
    _pki("init", ca, *INIT)
    limit = (ca / "ledger.jsonl").stat().st_size + 100

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = ["-m", "pki", "issue", "worker-1", "--role", "worker", "-a", str(ca), "--out", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, preexec_fn=limited)
    assert done.returncode == 1
    assert "ledger.jsonl: File too large; raise the limit" in done.stderr
    assert _issue("worker-1", ca, tmp_path / "out") == (0, "")
    assert len(AuthorityStore.open(ca).register.leaves) == 1
