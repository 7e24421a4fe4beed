"""Helpers for tests of the `pki` command."""

import json
from typing import Any

import pytest

from pki.cli import main

INIT = ["init", "ca", "--trust-domain", "zkp.local", "--no-passphrase", "--development"]
ISSUE = [
    "issue",
    "worker-1",
    "--role",
    "worker",
    "--host",
    "127.0.0.1",
    "--authority",
    "ca",
    "--out",
    "certs",
]


def refused(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 1) -> str:
    """Run, expect the exit code and one line of error, and return it."""
    capsys.readouterr()
    assert main(list(argv)) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


def answer(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> Any:
    """Run with --json, expect the exit code, and return the document."""
    capsys.readouterr()
    assert main([*argv, "--json"]) == code
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def said(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    """Run, expect the exit code and no error, and return what was printed."""
    capsys.readouterr()
    assert main(list(argv)) == code
    out, err = capsys.readouterr()
    assert err == ""
    return out
