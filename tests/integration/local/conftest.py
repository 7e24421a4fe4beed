"""A local cluster that the tests share."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from zkp.localcluster.cluster import LocalCluster
from zkp.localcluster.postgres import PACKAGE, program
from zkp.localcluster.process import orphans


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, keys: Path) -> Iterator[LocalCluster]:
    """A running cluster; a test that stops a part of it restarts it."""
    made = LocalCluster(tmp_path_factory.mktemp("local") / "zkp", keys=keys)
    made.up()
    yield made
    made.down()
    assert orphans(made.layout.root) == []


@pytest.fixture
def closed_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with mode 0700 and a copy of the embedded PostgreSQL, which the test and its processes run."""
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
    """Remove environment variables that select a cluster or database or override a setting."""
    for name in os.environ:
        if name.startswith(("ZKP_", "COORDINATOR_", "WORKER_", "GATEWAY_")):
            monkeypatch.delenv(name)
