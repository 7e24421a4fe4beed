"""What all tests of this room share."""

import os

import pytest


@pytest.fixture(autouse=True)
def _no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here loses power: waiting for the disk is left to the integration tests."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
