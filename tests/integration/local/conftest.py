"""A local cluster that tests share, and keys that are made once for all of them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from zkp.localcluster.cluster import LocalCluster
from zkp.localcluster.postgres import PACKAGE, program
from zkp.localcluster.process import remnants


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[LocalCluster]:
    """A cluster that is up; a test that takes a part of it down starts it again."""
    made = LocalCluster(tmp_path_factory.mktemp("local") / "zkp", keys=keys)
    made.up()
    yield made
    made.down()
    assert remnants(made.layout.root) == []


@pytest.fixture
def closed_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory, 0700, with a copy of the embedded PostgreSQL that this test and its processes run."""
    newest = program("postgres").parents[1]
    packages, closed = newest.parents[1], tmp_path / "closed"
    closed.mkdir(mode=0o700)
    shutil.copytree(newest, closed / PACKAGE / newest.name, symlinks=True)
    shutil.copy(newest.parent / "__init__.py", closed / PACKAGE)
    shutil.copytree(packages / f"{PACKAGE}.libs", closed / f"{PACKAGE}.libs")
    monkeypatch.syspath_prepend(closed)
    monkeypatch.setenv("PYTHONPATH", str(closed), prepend=os.pathsep)
    return closed


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the caller's environment names another cluster or database, or overrides a setting."""
    for name in os.environ:
        if name.startswith(("ZKP_", "COORDINATOR_", "WORKER_", "GATEWAY_")):
            monkeypatch.delenv(name)
