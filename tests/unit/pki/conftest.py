"""Shared fixtures of the pki tests."""

import io
import os
import sys
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here loses power: waiting for the disk is left to the integration tests."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory for the `pki` command, without a terminal and without settings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PKI_PASSPHRASE", raising=False)
    monkeypatch.delenv("PKI_AUTHORITY", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    return tmp_path
