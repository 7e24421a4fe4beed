"""A local cluster that tests share, and keys that are made once for all of them."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.local.cluster import LocalCluster
from client.local.process import remnants
from client.local.setup import make_keys


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with development keys of every circuit."""
    directory = tmp_path_factory.mktemp("keys")
    make_keys(directory, lambda _: None)
    return directory


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[LocalCluster]:
    """A cluster that is up; a test that takes a part of it down starts it again."""
    made = LocalCluster(tmp_path_factory.mktemp("local") / "zkp", keys=keys)
    made.up()
    yield made
    made.down()
    assert remnants(made.layout.root) == []


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the caller's environment names another cluster or database, or overrides a setting."""
    for name in os.environ:
        if name.startswith(("ZKP_", "COORDINATOR_", "WORKER_", "GATEWAY_")):
            monkeypatch.delenv(name)
