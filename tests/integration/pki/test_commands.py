"""The `pki` command as processes: several at once on one authority."""

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pki.store.store import AuthorityStore
from pki.tls.material import TlsFiles, TlsMaterial


def _start(*argv: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "pki", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _end(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit codes and error output, in order."""
    outcomes = []
    for process in processes:
        _, errors = process.communicate(timeout=60)
        outcomes.append((process.returncode, errors))
    return outcomes


def test_commands_at_once_keep_the_ledger_whole(tmp_path: Path) -> None:
    """Of commands that run at the same time each is recorded, and of two for one name one is refused."""
    ca, out = str(tmp_path / "ca"), str(tmp_path / "out")
    options = ["--trust-domain", "zkp.local", "--no-passphrase", "--development"]
    assert _end([_start("init", ca, *options)]) == [(0, "")]
    names = ["worker-1", "worker-2", "worker-3", "worker-3"]
    started = [_start("issue", name, "--role", "worker", "-a", ca, "--out", out) for name in names]
    outcomes = _end(started)
    assert outcomes[:2] == [(0, ""), (0, "")]
    records = AuthorityStore.open(tmp_path / "ca").records()
    issued = [record.identity.name for record in records if record.identity]
    assert set(issued) == set(names)
    assert sorted(code for code, _ in outcomes[2:]) == [0, 1]
    for name in set(names):
        material = TlsMaterial.load(TlsFiles.in_directory(tmp_path / "out" / name))
        assert material.identity.name == name
        assert material.certificate in [record.certificate for record in records]
        assert material.certificate.not_valid_before_utc < datetime.now(UTC)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a directory somebody else's")
def test_somebody_elses_authority_is_one_line(tmp_path: Path) -> None:
    """A user who may not read the directory is told so, for every command that looks there."""
    ca = str(tmp_path / "ca")
    options = ["--trust-domain", "zkp.local", "--no-passphrase", "--development"]
    assert _end([_start("init", ca, *options)]) == [(0, "")]
    os.chown(tmp_path, 65534, 65534)
    # Root without its powers over files: "nobody" may not be able to read this interpreter either.
    dropped = "-dac_override,-dac_read_search"
    powerless = ["setpriv", f"--bounding-set={dropped}", f"--inh-caps={dropped}"]  # containers hand on both sets
    for command in (["list"], ["issue", "worker-1", "--role", "worker"], ["audit"], ["rotate-issuer"]):
        program = [*powerless, sys.executable, "-m", "pki", *command, "-a", ca]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert done.stderr.count("\n") == 1
        assert "Permission denied" in done.stderr


def test_the_shell_completes_commands_options_and_names(tmp_path: Path) -> None:
    """Completion knows every command and option, and the members of the authority at hand."""
    ca, out = str(tmp_path / "ca"), str(tmp_path / "out")
    options = ["--trust-domain", "zkp.local", "--no-passphrase", "--development"]
    assert _end([_start("init", ca, *options)]) == [(0, "")]
    assert _end([_start("issue", "worker-1", "--role", "worker", "-a", ca, "--out", out)]) == [(0, "")]

    def complete(*words: str) -> list[str]:
        environment = os.environ | {
            "_PKI_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["pki", *words]),
            "COMP_CWORD": str(len(words)),
            "PKI_AUTHORITY": ca,
        }
        program = [sys.executable, "-m", "pki"]
        return subprocess.run(program, env=environment, capture_output=True, text=True, check=True).stdout.split()

    assert complete("rot") == ["rotate-issuer", "rotate-root"]
    assert complete("renew", "wor") == ["worker-1"]
    assert complete("revoke", "--su") == ["--superseded"]
