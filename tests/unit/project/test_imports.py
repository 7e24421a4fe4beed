"""The contracts on imports in pyproject.toml: they hold, and they fail when they are broken."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("coordinator", "gateway", "pki", "worker", "zkp")
CONTRACTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint(project: Path) -> tuple[int, str]:
    """Check the contracts of a copy of the project: exit status and report."""
    done = subprocess.run(
        [sys.executable, "-c", CONTRACTS, "--no-logo", "--no-cache"],
        check=False,
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project)},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the packages and their contracts."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_imports_go_down_and_each_library_has_one_importer(project: Path) -> None:
    """Every contract holds."""
    status, report = lint(project)
    assert status == 0, report
    assert "0 broken" in report


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("zkp/client/backoff.py", "import gateway.problems", "Packages import downwards"),
        ("zkp/cli/submit.py", "import coordinator.state.model", "The command line knows no server"),
        ("coordinator/state/model.py", "import coordinator.leader.leases", "Inside the coordinator imports go down"),
        ("coordinator/raft/storage/disk.py", "import coordinator.raft.node", "Inside raft imports go down"),
        ("pki/x509/keys.py", "import pki.store.store", "Inside pki imports go down"),
        ("coordinator/leader/scheduler.py", "import time", "do no input, output or timing"),
        ("gateway/serve.py", "import psycopg", "psycopg is known to the store"),
        ("coordinator/raft/node.py", "import pysyncobj", "pysyncobj is known to the engine"),
    ],
)
def test_an_import_against_a_contract_is_reported(project: Path, module: str, line: str, contract: str) -> None:
    """One added line breaks the contract that it is against."""
    with (project / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")

    status, report = lint(project)

    assert status == 1
    assert any(contract in text and "BROKEN" in text for text in report.splitlines()), report
