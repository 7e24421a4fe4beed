"""Keys for real proofs, made once per session."""

from pathlib import Path

import pytest

from zkp.proofs.keys import KeyStore


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    """Development keys of the smallest circuit; not to be changed."""
    store = KeyStore(tmp_path_factory.mktemp("keys") / "store")
    store.build("addition")
    return store


@pytest.fixture(scope="session")
def keys_dir(keys: KeyStore) -> Path:
    """Their directory."""
    return keys.directory
