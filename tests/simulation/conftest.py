"""Virtual time is for the simulation alone, and its nodes are silent."""

import logging
from collections.abc import Iterator

import pysyncobj.syncobj
import pytest

from coordinator.raft import engine


@pytest.fixture(autouse=True)
def _quiet_and_restore_clock(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Thousands of elections are no news here; other tests get the real clock back."""
    caplog.set_level(logging.CRITICAL + 1)
    real = pysyncobj.syncobj.monotonicTime
    yield
    engine.use_clock(real)
