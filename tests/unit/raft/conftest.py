"""Virtual time for the engine; the real clock comes back after each test."""

import random
from collections.abc import Iterator

import pysyncobj.syncobj
import pytest

from coordinator.raft import engine
from tests.unit.raft.lone_node import Clock


@pytest.fixture(autouse=True)
def clock() -> Iterator[Clock]:
    """The clock of every engine in this process; election timeouts are drawn the same in every run."""
    real = pysyncobj.syncobj.monotonicTime
    virtual = Clock()
    engine.use_clock(virtual)
    random.seed(0)
    yield virtual
    engine.use_clock(real)
